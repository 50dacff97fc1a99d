// Pins the Kubo that the tests run against; tests/run builds it.
module kubo-for-tests

go 1.26

require github.com/ipfs/kubo v0.43.0
