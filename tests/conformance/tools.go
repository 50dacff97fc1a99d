//go:build tools

// Package tools names the program, so that the module requires it.
package tools

import _ "github.com/opencontainers/distribution-spec/conformance"
