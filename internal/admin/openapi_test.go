package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write openapi.json anew from docs/openapi.yaml")

const (
	openapiYAML = "../../docs/openapi.yaml"
	openapiJSON = "openapi.json"
)

// TestOpenAPI holds the document that the service serves to the one that
// people edit.
func TestOpenAPI(t *testing.T) {
	source, err := os.ReadFile(openapiYAML)
	if err != nil {
		t.Fatal(err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(source, &doc); err != nil {
		t.Fatal(err)
	}
	want, err := toJSON(nil, doc.Content[0])
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.WriteFile(openapiJSON, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(openapiJSON)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("openapi.json is not what docs/openapi.yaml says; run: go test ./internal/admin -run TestOpenAPI -update")
	}
}

// toJSON appends a YAML node as JSON, its keys in their order.
func toJSON(dst []byte, n *yaml.Node) ([]byte, error) {
	var err error
	switch n.Kind {
	case yaml.MappingNode:
		dst = append(dst, '{')
		for i := 0; i < len(n.Content); i += 2 {
			if i > 0 {
				dst = append(dst, ',')
			}
			key, err := json.Marshal(n.Content[i].Value)
			if err != nil {
				return nil, err
			}
			dst = append(append(dst, key...), ':')
			if dst, err = toJSON(dst, n.Content[i+1]); err != nil {
				return nil, err
			}
		}
		return append(dst, '}'), nil
	case yaml.SequenceNode:
		dst = append(dst, '[')
		for i, item := range n.Content {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, err = toJSON(dst, item); err != nil {
				return nil, err
			}
		}
		return append(dst, ']'), nil
	case yaml.ScalarNode:
		var v any
		if err := n.Decode(&v); err != nil {
			return nil, fmt.Errorf("line %d: %w", n.Line, err)
		}
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil {
			return nil, fmt.Errorf("line %d: %w", n.Line, err)
		}
		return append(dst, bytes.TrimSpace(b.Bytes())...), nil
	}
	return nil, fmt.Errorf("line %d: this form of YAML is not supported", n.Line)
}

// contract is docs/openapi.yaml, loaded once.
var contract = sync.OnceValues(func() (*openapi3.T, error) {
	path, err := filepath.Abs(openapiYAML)
	if err != nil {
		return nil, err
	}
	return openapi3.NewLoader().LoadFromFile(path)
})

func loadContract(t testing.TB) *openapi3.T {
	t.Helper()
	doc, err := contract()
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestOpenAPI_isValid(t *testing.T) {
	if err := loadContract(t).Validate(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestOpenAPI_examples: every answer and every body has one, and none of them
// breaks its own schema.
func TestOpenAPI_examples(t *testing.T) {
	for path, item := range loadContract(t).Paths.Map() {
		for method, op := range item.Operations() {
			name := method + " " + path
			if op.OperationID == "" || op.Summary == "" || len(op.Tags) == 0 {
				t.Errorf("%s has no operationId, summary or tags", name)
			}
			if op.RequestBody != nil {
				for mediaType, content := range op.RequestBody.Value.Content {
					checkExamples(t, name+" "+mediaType, content)
				}
			}
			for status, response := range op.Responses.Map() {
				if status == "204" {
					continue
				}
				content := response.Value.Content.Get("application/json")
				if content == nil {
					t.Errorf("%s %s has no JSON", name, status)
					continue
				}
				checkExamples(t, name+" "+status, content)
			}
		}
	}
}

func checkExamples(t *testing.T, name string, content *openapi3.MediaType) {
	t.Helper()
	var examples []any
	if content.Example != nil {
		examples = append(examples, content.Example)
	}
	for _, e := range content.Examples {
		examples = append(examples, e.Value.Value)
	}
	if len(examples) == 0 {
		t.Errorf("%s has no example", name)
	}
	for _, e := range examples {
		if err := content.Schema.Value.VisitJSON(e, openapi3.EnableJSONSchema2020(), openapi3.MultiErrors()); err != nil {
			t.Errorf("%s: example: %v", name, err)
		}
	}
}

// promised checks an answer against the contract: its status is one that is
// declared, its body has the declared schema.
func promised(t testing.TB, method, path string, status int, body []byte) {
	t.Helper()
	if status == 405 || status == 500 || method == "HEAD" {
		return
	}
	path, _, _ = strings.Cut(path, "?")
	segments := strings.Split(strings.Trim(path, "/"), "/")
	if len(segments) > 1 && (segments[1] == "event-hooks" || segments[1] == "upstreams") {
		segments = segments[1:] // the workspace
	}
	var best *openapi3.PathItem
	bestLiterals := -1
	for pattern, item := range loadContract(t).Paths.Map() {
		want := strings.Split(strings.Trim(pattern, "/"), "/")
		literals := 0
		fits := len(want) == len(segments)
		for i := 0; fits && i < len(want); i++ {
			switch {
			case strings.HasPrefix(want[i], "{"):
			case want[i] == segments[i]:
				literals++
			default:
				fits = false
			}
		}
		if fits && literals > bestLiterals {
			best, bestLiterals = item, literals
		}
	}
	if best == nil {
		if status != 404 && status != 401 && status != 403 {
			t.Errorf("%s %s = %d, but the contract knows no such path", method, path, status)
		}
		return
	}
	op := best.GetOperation(method)
	if op == nil {
		if status != 401 && status != 403 {
			t.Errorf("%s %s = %d, but the contract knows no such method there", method, path, status)
		}
		return
	}
	response := op.Responses.Value(strconv.Itoa(status))
	if response == nil {
		t.Errorf("%s %s = %d, which the contract does not declare: %s", method, path, status, body)
		return
	}
	if status == 204 {
		if len(body) > 0 {
			t.Errorf("%s %s = 204 with a body: %s", method, path, body)
		}
		return
	}
	if len(body) > 1<<20 { // slow, and no other than a small one
		return
	}
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		if !json.Valid(body) { // it may hold a number, as it was sent, that no float can
			t.Errorf("%s %s: answer is no JSON: %v: %s", method, path, err, body)
		}
		return
	}
	schema := response.Value.Content.Get("application/json").Schema.Value
	if err := schema.VisitJSON(v, openapi3.EnableJSONSchema2020(), openapi3.MultiErrors()); err != nil {
		t.Errorf("%s %s = %d: answer breaks the contract: %v\n%s", method, path, status, err, body)
	}
}
