// Pins the OCI conformance program that the tests run; tests/run builds it.
module conformance-for-tests

go 1.26

require github.com/opencontainers/distribution-spec/conformance v0.0.0-20260831232431-97274622c111
