package schema_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/hook"
	"eventhooks/internal/schema"
	"eventhooks/internal/strictjson"
)

// id is that of all entities.
const id = "c57340ab-9fed-40fd-bb7e-1cef8d37c2df"

// hooks are documents of all kinds of hooks that are accepted.
var hooks = []string{
	`{"source":"crud","handler":"log"}`,
	`{"source":"crud","event":"admins:create","handler":"webhook","config":{"url":"http://example.test/x?y=z","secret":"s"}}`,
	`{"source":"a","handler":"webhook","on_change":false,"snooze":0,"enabled":false,"name":"n","tags":[],"workspace":"w","retry":{"max_age":1},
	  "config":{"url":"https://[::1]:8443","headers":{"Authorization":"x","X-B":"y\tz"},"ssl_verify":false,"timeout":30,"signature_algorithm":"sha1"}}`,
	`{"source":"a","handler":"webhook-custom","config":{"url":"http://x","method":"PATCH","payload":{},"body":"b","payload_format":false,"body_format":false,"headers_format":true}}`,
	`{"source":"a","handler":"webhook-custom","tags":["t"],"retry":{"max_attempts":50},"config":{"url":"http://x/{{y}}","method":"GET","payload":{"n":1e5,"a":[{"b":null}]}}}`,
	`{"source":"a","handler":"lambda","filter":{"a":[1.50,{"prefix":"<"}],"$or":[{"b":[null]},{"c":{"d":[""]}}]},"config":{"functions":["return function (data)\n\treturn \"\u2028<&\"\nend","x"]}}`,
}

func newHook(t testing.TB, doc string) hook.Hook {
	t.Helper()
	h, err := schema.NewHook([]byte(doc), id, nil)
	if err != nil {
		t.Fatalf("NewHook(%s) = %v", doc, err)
	}
	return h
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := strictjson.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// same compares hooks, secrets by value.
var same = cmp.Comparer(func(a, b hook.Secret) bool { return a.Reveal() == b.Reveal() })

func TestPatchHook_leavesTheStored(t *testing.T) {
	h := newHook(t, hooks[2])
	before := encode(t, schema.ShowHook(h, schema.ForAdmin))
	if _, err := schema.PatchHook([]byte(`{"tags":["x"],"config":{"headers":{"X":"y"},"timeout":1},"retry":{"max_age":9}}`), h); err != nil {
		t.Fatal(err)
	}
	if after := encode(t, schema.ShowHook(h, schema.ForAdmin)); string(after) != string(before) {
		t.Errorf("PatchHook changed what was stored: %s; was %s", after, before)
	}
}

func TestUpstream_writtenBack(t *testing.T) {
	for _, doc := range []string{
		`{"name":"web"}`,
		`{"name":"web","host_header":"h.test:80","tags":["a"],"healthchecks":{"active":{"type":"tcp","timeout":0.25,"headers":{"X-Key":["a","b"]},
		  "healthy":{"interval":0,"successes":0,"http_statuses":[]},"unhealthy":{"interval":1.5,"timeouts":0}}}}`,
		`{"name":"web","remind_every":60,"healthchecks":{"active":{"type":"grpcs","grpc_service":"shop.v1.Orders","certificate_expiry_days":0}}}`,
		`{"name":"web","remind_every":2592000,"healthchecks":{"active":{"type":"grpc","grpc_service":"é","certificate_expiry_days":365}}}`,
	} {
		u, err := schema.NewUpstream([]byte(doc), id, "", nil)
		if err != nil {
			t.Fatalf("NewUpstream(%s) = %v", doc, err)
		}
		again, err := schema.NewUpstream(encode(t, schema.ShowUpstream(u)), id, "", &u)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(u, again); diff != "" {
			t.Errorf("a read, written back, is another upstream (-want +got):\n%s", diff)
		}
		patched, err := schema.PatchUpstream([]byte(`{}`), u)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(u, patched); diff != "" {
			t.Errorf("PatchUpstream({}) (-want +got):\n%s", diff)
		}
	}
}

func TestTargetAddress(t *testing.T) {
	for in, want := range map[string]string{
		"web.test": "web.test:8000", "web.test:80": "web.test:80", "WEB_1.test.:1": "WEB_1.test.:1", "10.0.0.1": "10.0.0.1:8000", "10.0.0.1:65535": "10.0.0.1:65535",
		"::1": "[::1]:8000", "[::1]": "[::1]:8000", "[2001:db8::1]:443": "[2001:db8::1]:443",
		"": "", ":80": "", "web.test:": "", "web.test:0": "", "web.test:65536": "", "web.test:x": "", "web.test:080": "", "a b": "", "-a.test": "",
		"a..b": "", "fe80::1%eth0": "", "[::1": "", "123": "", "10.0.0.256": "", strings.Repeat("a", 64) + ".test": "", "a/b": "",
	} {
		if got, ok := schema.TargetAddress(in); got != want && ok || ok != (want != "") {
			t.Errorf("TargetAddress(%q) = %q, %t; want %q", in, got, ok, want)
		}
	}
}

func TestUUID(t *testing.T) {
	for in, want := range map[string]string{
		"C57340AB-9fed-40fd-bb7e-1cef8d37c2df": "c57340ab-9fed-40fd-bb7e-1cef8d37c2df", "00000000-0000-0000-0000-000000000000": "00000000-0000-0000-0000-000000000000",
		"": "", "c57340ab9fed40fdbb7e1cef8d37c2df": "", "{57340ab-9fed-40fd-bb7e-1cef8d37c2d}": "", "c57340ab-9fed-40fd-bb7e-1cef8d37c2dg": "",
		"c57340ab-9fed-40fd-bb7e01cef8d37c2df": "", "c57340ab-9fed-40fd-bb7e-1cef8d37c2df0": "", "\x1057340ab-9fed-40fd-bb7e-1cef8d37c2df": "",
	} {
		if got, ok := schema.UUID(in); got != want || ok != (want != "") {
			t.Errorf("UUID(%q) = %q, %t; want %q", in, got, ok, want)
		}
	}
}

func FuzzHook(f *testing.F) {
	var stored []hook.Hook
	for _, doc := range hooks {
		f.Add([]byte(doc))
		stored = append(stored, newHook(f, doc))
	}
	f.Add([]byte(`{"config":[],"handler":"webhook","tags":[null],"retry":null,"headers":{"a":{}}}`))
	f.Add([]byte(`{"config":{"secret":"[redacted]","url":"http://x/[redacted]","headers":{"a":"[redacted]"}},"filter":{"a":[[]]}}`))
	f.Add([]byte(`{"handler":"lambda","config":{"functions":[5]},"filter":null,"source":null}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		h, err := schema.NewHook(doc, id, nil)
		readable(t, doc, h, err)
		for _, old := range stored {
			h, err := schema.PatchHook(doc, old)
			readable(t, doc, h, err)
			h, err = schema.NewHook(doc, id, &old)
			readable(t, doc, h, err)
		}
	})
}

// readable checks what a document was read as.
func readable(t *testing.T, doc []byte, h hook.Hook, err error) {
	t.Helper()
	if err != nil {
		faults, isFaults := errors.AsType[*schema.Faults](err)
		_, isJSON := errors.AsType[*strictjson.Error](err)
		if !isFaults && !isJSON {
			t.Fatalf("reading %s = %T %v", doc, err, err)
		}
		if isFaults && (!strings.Contains(faults.Error(), "schema violation") || !json.Valid(encode(t, faults))) {
			t.Fatalf("faults of %s: %s: %s", doc, faults, encode(t, faults))
		}
		return
	}
	sameAgain(t, h)
}

// sameAgain checks that a hook that was read can be shown to everybody,
// written back as it is shown, and patched with nothing.
func sameAgain(t testing.TB, h hook.Hook) {
	t.Helper()
	for _, v := range []schema.View{schema.ForAdmin, schema.ForReader} {
		shown := encode(t, schema.ShowHook(h, v))
		if !utf8.Valid(shown) {
			t.Fatalf("shown is not UTF-8: %q", shown)
		}
		again, err := schema.NewHook(shown, h.ID, &h)
		if err != nil {
			t.Fatalf("NewHook of a read = %v: %s", err, shown)
		}
		// What was left to a default is shown, and so is written out.
		want := h
		if h.Calls() {
			want.Config.Timeout, want.Config.SignatureAlgo = h.Config.TimeoutSeconds(), h.Config.SignatureAlgorithm()
		}
		if diff := cmp.Diff(want, again, same); diff != "" {
			t.Fatalf("a read, written back, is another hook (-want +got):\n%s", diff)
		}
	}
	patched, err := schema.PatchHook([]byte(`{}`), h)
	if err != nil {
		t.Fatalf("PatchHook({}) = %v", err)
	}
	if diff := cmp.Diff(h, patched, same); diff != "" {
		t.Fatalf("PatchHook({}) changed it (-want +got):\n%s", diff)
	}
}

// FuzzUpstream does the same with upstreams, and reads the bytes as all other
// documents too.
func FuzzUpstream(f *testing.F) {
	f.Add([]byte(`{"name":"x","healthchecks":{"active":{"headers":{"a":["b"]}},"passive":{"type":"http"}},"slots":1e4}`))
	f.Add([]byte(`{"name":"x","remind_every":60,"healthchecks":{"active":{"type":"grpc","grpc_service":"a","certificate_expiry_days":0}}}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		if u, err := schema.NewUpstream(doc, id, "", nil); err == nil {
			if _, err := schema.NewUpstream(encode(t, schema.ShowUpstream(u)), id, "", &u); err != nil {
				t.Fatalf("%s cannot be written back: %v", doc, err)
			}
		}
		_, _ = schema.NewTarget(doc, "", "")
		_, _ = schema.NewTarget(doc, id, "x")
		_, _ = schema.NewSource(doc, "a", "b")
		_, _ = schema.NewToken(doc, 5)
	})
}

func TestToken(t *testing.T) {
	got, err := schema.NewToken([]byte(`{"name":"gw","scopes":["ingest"],"sources":["`+strings.Repeat("a", 255)+`","a/b",""]}`), 5)
	const want = "2 schema violations (sources.2: must not contain a slash or a control character; sources.3: length must be at least 1)"
	if err == nil || err.Error() != want {
		t.Errorf("NewToken = %+v, %v; want %s", got, err, want)
	}
	if shown := string(encode(t, schema.ShowToken(hook.Token{Name: "powerless"}, 0))); !strings.Contains(shown, `"scopes":[],"sources":null,`) {
		t.Errorf("a token without scopes is shown as %s", shown)
	}
}
