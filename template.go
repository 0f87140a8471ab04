// Package eventhooks carries template.yaml, the one description of the tables,
// queues, functions and settings, into the programs that read it: the local
// mode of cmd/eventhooks and the tests. No function links it.
package eventhooks

import _ "embed"

// Template is template.yaml as it was when the program was built.
//
//go:embed template.yaml
var Template []byte
