package admin

import _ "embed"

// openapiJSON is docs/openapi.yaml as JSON. After an edit of the YAML:
//
//	go test ./internal/admin -run TestOpenAPI -update
//
//go:embed openapi.json
var openapiJSON []byte
