// Pins the clients that the tests run against a node; tests/run builds them.
module clients-for-tests

go 1.26

tool (
	github.com/google/go-containerregistry/cmd/crane
	github.com/regclient/regclient/cmd/regctl
	github.com/sigstore/cosign/v3/cmd/cosign
	helm.sh/helm/v4/cmd/helm
	oras.land/oras/cmd/oras
)

require (
	github.com/google/go-containerregistry v0.22.1
	github.com/regclient/regclient v0.11.7
	github.com/sigstore/cosign/v3 v3.1.3
	helm.sh/helm/v4 v4.3.1
	oras.land/oras v1.3.6
)
