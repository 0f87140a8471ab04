package admin_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"go.yaml.in/yaml/v3"

	"eventhooks/internal/admin"
	"eventhooks/internal/hook"
	"eventhooks/internal/ingest"
	"eventhooks/internal/lua"
	"eventhooks/internal/record"
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
	if status == 405 || method == "HEAD" {
		return
	}
	path, _, _ = strings.Cut(path, "?")
	segments := strings.Split(strings.Trim(path, "/"), "/")
	if len(segments) > 1 && (segments[1] == "event-hooks" || segments[1] == "upstreams") {
		segments = segments[1:] // the workspace
	}
	// Of the paths that fit, the one with most literals that has the method.
	var best *openapi3.PathItem
	bestRank := -1
	for pattern, item := range loadContract(t).Paths.Map() {
		want := strings.Split(strings.Trim(pattern, "/"), "/")
		rank := 0
		fits := len(want) == len(segments)
		for i := 0; fits && i < len(want); i++ {
			switch {
			case strings.HasPrefix(want[i], "{"):
			case want[i] == segments[i]:
				rank++
			default:
				fits = false
			}
		}
		if item.GetOperation(method) != nil {
			rank += len(segments) + 1
		}
		if fits && rank > bestRank {
			best, bestRank = item, rank
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
	key := strconv.Itoa(status)
	if status == 500 {
		key = "default"
	}
	seen.Store(op.OperationID+" "+key, true)
	response := op.Responses.Value(key)
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

// seen is every status that any test of this package got from an operation:
// "createEventHook 201". TestMain holds it to what is promised.
var seen sync.Map

// unseen are promises that the tests here cannot see kept, and why.
var unseen = map[string]string{
	"postEvents default":   "ingest answers 503 to all that is not the client's fault; this is for what nobody thought of",
	"postEventsOf default": "as postEvents",
}

// TestMain asks, when every test ran, for each promised status whether it was
// answered at least once.
func TestMain(m *testing.M) {
	lua.RunIfChild()
	code := m.Run()
	all := true
	for _, name := range []string{"test.run", "test.skip", "test.list", "test.fuzz", "test.fuzzworker"} {
		f := flag.Lookup(name)
		all = all && (f == nil || f.Value.String() == f.DefValue)
	}
	if doc, err := contract(); code == 0 && all && err == nil {
		for _, item := range doc.Paths.Map() {
			for _, op := range item.Operations() {
				for status := range op.Responses.Map() {
					promise := op.OperationID + " " + status
					_, was := seen.Load(promise)
					if reason := unseen[promise]; was == (reason != "") {
						fmt.Printf("openapi.yaml promises %s; seen: %v; said to be unseen because: %q\n", promise, was, reason)
						code = 1
					}
				}
			}
		}
	}
	os.Exit(code)
}

// operation is one of the contract's.
type operation struct {
	*openapi3.Operation
	method, path string
	params       []*openapi3.Parameter // those of the path too
}

func operations(t testing.TB) []operation {
	t.Helper()
	var all []operation
	for path, item := range loadContract(t).Paths.Map() {
		for method, op := range item.Operations() {
			o := operation{Operation: op, method: method, path: path}
			for _, p := range slices.Concat(item.Parameters, op.Parameters) {
				o.params = append(o.params, p.Value)
			}
			all = append(all, o)
		}
	}
	slices.SortFunc(all, func(a, b operation) int { return strings.Compare(a.OperationID, b.OperationID) })
	return all
}

// promises reports whether the operation may be answered with the status.
func (op operation) promises(status int) bool { return op.Responses.Value(strconv.Itoa(status)) != nil }

// example returns the example of a parameter.
func (op operation) example(in, name string) (text string, found bool) {
	for _, p := range op.params {
		if p.In == in && p.Name == name && p.Example != nil {
			return fmt.Sprint(p.Example), true
		}
	}
	return "", false
}

// target returns the path with the examples of its parameters, but for those
// that but names.
func (op operation) target(t testing.TB, but map[string]string) string {
	t.Helper()
	segments := strings.Split(op.path, "/")
	for i, segment := range segments {
		if !strings.HasPrefix(segment, "{") {
			continue
		}
		name := segment[1 : len(segment)-1]
		value, found := op.example("path", name)
		if !found {
			t.Fatalf("%s: parameter %s has no example", op.OperationID, name)
		}
		if other, ok := but[name]; ok {
			value = other
		}
		segments[i] = url.PathEscape(value)
	}
	return strings.Join(segments, "/")
}

// sample is a request as an example says it.
type sample struct {
	name      string
	query     string
	mediaType string // "" sends no body
	body      string
}

// samples returns the requests of all examples.
func (op operation) samples(t testing.TB) []sample {
	t.Helper()
	var all []sample
	if op.RequestBody == nil || !op.RequestBody.Value.Required {
		all = append(all, sample{name: "without a body"})
	}
	if op.RequestBody != nil {
		content := op.RequestBody.Value.Content
		for _, mediaType := range slices.Sorted(maps.Keys(content)) {
			for name, example := range examplesOf(content[mediaType]) {
				s := sample{name: strings.TrimSpace(mediaType + " " + name)}
				s.mediaType, s.body = encodeExample(t, mediaType, example)
				all = append(all, s)
			}
		}
	}
	for _, p := range op.params {
		if value, found := op.example("query", p.Name); p.In == "query" && found {
			s := all[0]
			s.name, s.query = "with "+p.Name, "?"+p.Name+"="+url.QueryEscape(value)
			all = append(all, s)
		}
	}
	return all
}

func examplesOf(content *openapi3.MediaType) map[string]any {
	all := map[string]any{}
	if content.Example != nil {
		all[""] = content.Example
	}
	for name, e := range content.Examples {
		all[name] = e.Value.Value
	}
	return all
}

// encodeExample returns an example as it is sent. That of a form is an object
// whose members are names and texts, or lists of texts.
func encodeExample(t testing.TB, mediaType string, example any) (contentType, body string) {
	t.Helper()
	if mediaType == "application/json" {
		b, err := json.Marshal(example)
		if err != nil {
			t.Fatal(err)
		}
		return mediaType, string(b)
	}
	form := url.Values{}
	for name, value := range example.(map[string]any) {
		list, isList := value.([]any)
		if !isList {
			list = []any{value}
		}
		for _, v := range list {
			form.Add(name, v.(string))
		}
	}
	if mediaType == "application/x-www-form-urlencoded" {
		return mediaType, form.Encode()
	}
	var b strings.Builder
	parts := multipart.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(form)) {
		for _, value := range form[name] {
			if err := parts.WriteField(name, value); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := parts.Close(); err != nil {
		t.Fatal(err)
	}
	return parts.FormDataContentType(), b.String()
}

// world is the service, and ingest beside it, on one store.
type world struct {
	*server
	ingest http.Handler
}

func newWorld(t testing.TB) world {
	t.Helper()
	s := newServer(t)
	now := func() time.Time { return clock }
	in, err := ingest.New(ingest.Options{Store: s.store, Queue: s.queue, Auth: s.tokens, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return world{s, in}
}

// prepare puts there what the examples of the operation's path name.
func (w world) prepare(t testing.TB, op operation) {
	t.Helper()
	ctx, nowMS := context.Background(), clock.UnixMilli()
	named := func(name string) string {
		value, _ := op.example("path", name)
		return value
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	eventID := named("event_id")
	h := hook.Hook{
		ID: named("id"), Source: "crud", Event: "consumers", Handler: hook.HandlerWebhook, Enabled: true, CreatedAt: clock.Unix(), UpdatedAt: clock.Unix(),
		Config: hook.Config{URL: "https://example.test/hook", Secret: hook.NewSecret("topsecret"), SSLVerify: true}, Gen: 42,
	}
	if op.path == "/events/{id}/deliveries" {
		h.ID, eventID = "c57340ab-9fed-40fd-bb7e-1cef8d37c2df", named("id")
	}
	if strings.HasPrefix(op.path, "/event-hooks/{id}") || op.path == "/events/{id}/deliveries" {
		r, err := record.Hook(h)
		check(err)
		var rows []hook.Delivery
		if eventID != "" {
			rows = []hook.Delivery{{
				HookID: h.ID, Gen: h.Gen, Status: hook.Failed, Reason: hook.ReasonGone, Run: 1, Attempt: 1, Seq: 3,
				Event: hook.Event{
					ID: eventID, Source: h.Source, Event: h.Event, Time: clock,
					Data: []byte(`{"operation":"create","schema":"consumers","entity":{"username":"my-consumer"}}`),
				},
				CreatedMS: nowMS, DeadlineMS: nowMS + 1000, ExpiresAt: nowMS/1000 + 3600,
				Attempts: []hook.Attempt{{AtMS: nowMS, TookMS: 12, Code: 410, Error: "the receiver answered 410 Gone", IP: "203.0.113.7"}},
				Response: &hook.Response{Code: 410, Headers: map[string]string{"Content-Type": "text/plain"}, Body: "gone"},
			}}
		}
		_, err = w.store.Write(ctx, hook.FeedHooks, []hook.Change{{Record: r, Expect: hook.ExpectAbsent}}, rows, nowMS)
		check(err)
	}
	if key := named("key"); key != "" {
		stored, err := base64.RawURLEncoding.DecodeString(key)
		check(err)
		check(w.store.Admit(ctx, hook.Admission{HookID: h.ID, NowMS: nowMS, Snoozes: []hook.SnoozeClaim{{
			Key: string(stored), Snooze: hook.Snooze{UntilMS: nowMS + 60_000}, ExpiresAt: nowMS/1000 + 3600,
		}}}))
	}
	if source := named("source"); source != "" {
		event := named("event")
		if event == "" {
			event = "log"
		}
		w.must(201, "PUT", "/event-hooks/sources/"+source+"/"+event, `{"fields":["request"]}`)
	}
	if upstream := named("upstream"); upstream != "" {
		w.must(201, "POST", "/upstreams", `{"name":"`+upstream+`"}`)
	}
	if target := named("target"); target != "" {
		w.must(201, "POST", "/upstreams/"+named("upstream")+"/targets", `{"target":"`+target+`"}`)
	}
	if strings.HasPrefix(op.path, "/tokens/{id}") {
		w.addToken(hook.Token{ID: named("id"), Name: "gateway-1", Scopes: []string{hook.ScopeIngest}, CreatedAt: clock.Unix()})
	}
}

// ofIngest reports whether ingest answers the operation.
func (op operation) ofIngest() bool { return slices.Contains(op.Tags, "events") }

// send makes a request with a token that may do everything; header is name,
// value, name, value. The answer is held to the contract.
func (w world) send(t testing.TB, op operation, path string, s sample, header ...string) reply {
	t.Helper()
	r := httptest.NewRequestWithContext(context.Background(), op.method, path+s.query, strings.NewReader(s.body))
	token := "admin-token"
	var handler http.Handler = w.svc
	if op.ofIngest() {
		token, handler = "ingest-token", w.ingest
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", s.mediaType)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, r)
	got := reply{answer.Code, answer.Header(), answer.Body.Bytes()}
	promised(t, op.method, path+s.query, got.status, got.body)
	if response := op.Responses.Value(strconv.Itoa(got.status)); response != nil {
		for name := range response.Value.Headers {
			if got.header.Get(name) == "" {
				t.Errorf("%s %s = %d without its header %s", op.method, path, got.status, name)
			}
		}
	}
	return got
}

// TestContract sends the examples of every request, in every media type, where
// what their paths name is there; and for every refusal that is promised to
// many operations alike a request that earns it.
func TestContract(t *testing.T) {
	for _, op := range operations(t) {
		t.Run(op.OperationID, func(t *testing.T) {
			t.Parallel()
			samples, path := op.samples(t), op.target(t, nil)
			first := samples[0]
			prepared := sync.OnceValue(func() world {
				w := newWorld(t)
				w.prepare(t, op)
				return w
			})
			succeeds := func(t *testing.T, got reply) {
				t.Helper()
				if got.status < 200 || got.status > 299 {
					t.Errorf("%s %s = %d: %s", op.method, path, got.status, got.body)
				}
			}
			refused := func(t *testing.T, status int, got reply) {
				t.Helper()
				if got.status != status {
					t.Errorf("%s %s = %d; want %d: %s", op.method, path, got.status, status, got.body)
				}
			}

			for _, s := range samples {
				t.Run("the example is taken: "+s.name, func(t *testing.T) {
					w := newWorld(t)
					w.prepare(t, op)
					succeeds(t, w.send(t, op, path, s))
				})
			}
			if op.promises(401) {
				t.Run("without a token", func(t *testing.T) {
					refused(t, 401, prepared().send(t, op, path, first, "Authorization", ""))
				})
				t.Run("with a token that may not", func(t *testing.T) {
					other := "ingest-token"
					if op.ofIngest() {
						other = "admin-token"
					}
					refused(t, 403, prepared().send(t, op, path, first, "Authorization", "Bearer "+other))
				})
			} else {
				t.Run("without a token", func(t *testing.T) {
					succeeds(t, prepared().send(t, op, path, first, "Authorization", ""))
				})
			}
			switch {
			case op.promises(404):
				t.Run("of what is not there", func(t *testing.T) {
					refused(t, 404, newWorld(t).send(t, op, path, first))
				})
			case path != op.path && !op.ofIngest():
				t.Run("of what is not there yet", func(t *testing.T) {
					succeeds(t, newWorld(t).send(t, op, path, first))
				})
			}
			for _, p := range op.params {
				isID := p.Name == "id" && !strings.HasPrefix(op.path, "/tokens") || p.Name == "event_id" || p.Name == "key"
				switch {
				case p.In == "path" && isID:
					t.Run("with an impossible "+p.Name, func(t *testing.T) {
						refused(t, 400, prepared().send(t, op, op.target(t, map[string]string{p.Name: "impossible"}), first))
					})
				case p.In == "query" && (p.Name == "size" || p.Name == "offset"):
					t.Run("with an impossible "+p.Name, func(t *testing.T) {
						s := first
						s.query = "?" + p.Name + "=*"
						refused(t, 400, prepared().send(t, op, path, s))
					})
				case p.In == "header" && p.Name == "If-Match":
					t.Run("of another version", func(t *testing.T) {
						refused(t, 412, prepared().send(t, op, path, first, "If-Match", fmt.Sprint(p.Example)))
					})
				case p.In == "header" && p.Name == "Idempotency-Key":
					t.Run("with the key of another request", func(t *testing.T) {
						w, other := prepared(), first
						other.body = "[" + first.body + "]"
						succeeds(t, w.send(t, op, path, first, p.Name, fmt.Sprint(p.Example)))
						refused(t, 409, w.send(t, op, path, other, p.Name, fmt.Sprint(p.Example)))
					})
				}
			}
			if last := path[strings.LastIndexByte(path, '/')+1:]; op.method == "PUT" && strings.Contains(first.body, `"`+last+`"`) {
				t.Run("under another id, of what has the name already", func(t *testing.T) {
					other := strings.TrimSuffix(path, last) + "00000000-0000-4000-8000-000000000009"
					refused(t, 409, prepared().send(t, op, other, first))
				})
			}
			if op.RequestBody != nil {
				t.Run("with a body that is no JSON", func(t *testing.T) {
					refused(t, 400, prepared().send(t, op, path, sample{mediaType: "application/json", body: "{"}))
				})
				t.Run("with a body that is too large", func(t *testing.T) {
					large := `{"x":"` + strings.Repeat("x", 4<<20) + `"}`
					refused(t, 413, prepared().send(t, op, path, sample{mediaType: "application/json", body: large}))
				})
				t.Run("with a body of another media type", func(t *testing.T) {
					refused(t, 415, prepared().send(t, op, path, sample{mediaType: "text/plain", body: "{}"}))
				})
			}
		})
	}
}

// failing is an Auth that does not know.
type failing struct{ err error }

func (f failing) Authenticate(context.Context, http.Header) (hook.Token, error) {
	return hook.Token{}, f.err
}

func (failing) Forget(string) {}

// TestContract_faults: what is promised when the service itself is at fault.
func TestContract_faults(t *testing.T) {
	for status, err := range map[int]error{503: context.DeadlineExceeded, 500: errors.New("disk on fire")} {
		w := newWorld(t)
		discard := slog.New(slog.DiscardHandler)
		var svcErr, inErr error
		w.svc, svcErr = admin.New(admin.Options{Store: w.store, RetryQueue: w.queue, Action: w.action, Auth: failing{err}, Log: discard})
		w.ingest, inErr = ingest.New(ingest.Options{Store: w.store, Queue: w.queue, Auth: failing{err}, Log: discard})
		if err := errors.Join(svcErr, inErr); err != nil {
			t.Fatal(err)
		}
		for _, op := range operations(t) {
			want := status
			if op.ofIngest() {
				want = 503 // whatever it is, the client should try again
			}
			if !op.promises(401) { // it looks nothing up
				continue
			}
			if got := w.send(t, op, op.target(t, nil), op.samples(t)[0]); got.status != want {
				t.Errorf("%s when %v: %d; want %d", op.OperationID, err, got.status, want)
			}
		}
	}
}

// TestContract_methods: a path has the methods that are promised, and no other.
func TestContract_methods(t *testing.T) {
	w := newWorld(t)
	for path, item := range loadContract(t).Paths.Map() {
		promised := slices.Sorted(maps.Keys(item.Operations()))
		if path == "/events/{id}/deliveries" { // an event that is called deliveries may be posted
			promised = []string{"GET", "POST"}
		}
		op := operations(t)[slices.IndexFunc(operations(t), func(op operation) bool { return op.path == path })]
		for _, method := range []string{"DELETE", "GET", "OPTIONS", "PATCH", "POST", "PUT"} {
			if slices.Contains(promised, method) {
				continue
			}
			got := w.do(method, op.target(t, nil), "")
			if allow := got.header.Get("Allow"); got.status != 405 || allow != strings.Join(promised, ", ") {
				t.Errorf("%s %s = %d, Allow: %s; want 405, Allow: %s", method, path, got.status, allow, strings.Join(promised, ", "))
			}
		}
	}
}
