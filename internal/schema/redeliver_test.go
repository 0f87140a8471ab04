package schema_test

import (
	"encoding/json"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/hook"
	"eventhooks/internal/schema"
	"eventhooks/internal/strictjson"
)

func TestNewRedelivery(t *testing.T) {
	for doc, want := range map[string]schema.Redelivery{
		`{}`: {Status: hook.Failed, UntilMS: math.MaxInt64},
		`{"status":null,"since":null,"until":null,"dry_run":null}`:        {Status: hook.Failed, UntilMS: math.MaxInt64},
		`{"status":"delivered","dry_run":true}`:                           {Status: hook.Delivered, UntilMS: math.MaxInt64, DryRun: true},
		`{"since":1795284000,"until":1795284001}`:                         {Status: hook.Failed, SinceMS: 1795284000_000, UntilMS: 1795284001_000},
		`{"since":1.795284e9,"until":"2026-11-21T18:00:00.001Z"}`:         {Status: hook.Failed, SinceMS: 1795284000_000, UntilMS: 1795284000_001},
		`{"since":"2026-11-21T19:30:00.1239+01:30"}`:                      {Status: hook.Failed, SinceMS: 1795284000_123, UntilMS: math.MaxInt64},
		`{"until":"9999-12-31T23:59:59Z","since":"1970-01-01T00:00:00Z"}`: {Status: hook.Failed, UntilMS: 253402300799_000},
		`{"since":0}`: {Status: hook.Failed, UntilMS: math.MaxInt64},
	} {
		got, err := schema.NewRedelivery([]byte(doc))
		if err != nil || got != want {
			t.Errorf("NewRedelivery(%s) = %+v, %v; want %+v", doc, got, err, want)
		}
	}
	const noTime = "expected a time: RFC 3339, or Unix seconds"
	for doc, want := range map[string]string{
		`{"since":"2026-11-21"}`:                 `{"since":"` + noTime + `"}`,
		`{"since":"2026-11-21 18:00:00Z"}`:       `{"since":"` + noTime + `"}`,
		`{"since":"2026-11-21T18:00:00"}`:        `{"since":"` + noTime + `"}`,
		`{"until":"1969-12-31T23:59:59.999Z"}`:   `{"until":"` + noTime + `"}`,
		`{"until":""}`:                           `{"until":"` + noTime + `"}`,
		`{"since":253402300800,"until":-1}`:      `{"since":"` + noTime + `","until":"` + noTime + `"}`,
		`{"since":1e300,"until":0.5}`:            `{"since":"` + noTime + `","until":"` + noTime + `"}`,
		`{"since":1e999,"until":true}`:           `{"since":"` + noTime + `","until":"` + noTime + `"}`,
		`{"since":{},"until":["x"]}`:             `{"since":"` + noTime + `","until":"` + noTime + `"}`,
		`{"since":5,"until":5}`:                  `{"until":"must be after since"}`,
		`{"since":6,"until":5}`:                  `{"until":"must be after since"}`,
		`{"until":0}`:                            `{"until":"must be after since"}`,
		`{"since":6,"until":5,"status":"gone"}`:  `{"status":"expected one of: pending, delivered, failed, superseded"}`,
		`{"status":"","dry_run":0,"status2":""}`: `{"dry_run":"expected a boolean","status":"expected one of: pending, delivered, failed, superseded","status2":"unknown field"}`,
	} {
		_, err := schema.NewRedelivery([]byte(doc))
		faults, ok := errors.AsType[*schema.Faults](err)
		if !ok || string(encode(t, faults)) != want {
			t.Errorf("NewRedelivery(%s) = %v; want %s", doc, err, want)
		}
	}
	t.Run("a form says the same", func(t *testing.T) {
		doc, err := schema.RedeliveryForm().JSON("status=pending&since=1795284000&until=2026-11-22T00:00:00Z&dry_run=true")
		if err != nil {
			t.Fatal(err)
		}
		got, err := schema.NewRedelivery(doc)
		if want := (schema.Redelivery{Status: hook.Pending, SinceMS: 1795284000_000, UntilMS: 1795305600_000, DryRun: true}); err != nil || got != want {
			t.Errorf("%s = %+v, %v; want %+v", doc, got, err, want)
		}
	})
}

func TestNewRotation(t *testing.T) {
	for doc, want := range map[string]bool{`{}`: false, `{"finish":null}`: false, `{"finish":false}`: false, `{"finish":true}`: true} {
		if got, err := schema.NewRotation([]byte(doc)); err != nil || got.Finish != want {
			t.Errorf("NewRotation(%s) = %+v, %v; want %t", doc, got, err, want)
		}
	}
	for _, doc := range []string{`{"finish":1}`, `{"finish":"true"}`, `{"x":true}`, `[]`, `{`, `{"finish":true,"finish":true}`} {
		if got, err := schema.NewRotation([]byte(doc)); err == nil {
			t.Errorf("NewRotation(%s) = %+v; want an error", doc, got)
		}
	}
	if got := string(encode(t, schema.ShowRotation("s", 5))); got != `{"secret":"s","old_secret_until":5}` {
		t.Errorf("ShowRotation = %s", got)
	}
	if got := string(encode(t, schema.ShowRotation("", 0))); got != `{"secret":null,"old_secret_until":null}` {
		t.Errorf("ShowRotation of nothing = %s", got)
	}
}

func TestNoFields(t *testing.T) {
	if err := schema.NoFields([]byte(` {} `)); err != nil {
		t.Errorf("NoFields({}) = %v", err)
	}
	if err := schema.NoFields([]byte(`{"a":1,"b":{"c":2}}`)); err == nil || err.Error() != "2 schema violations (a: unknown field; b: unknown field)" {
		t.Errorf("NoFields = %v", err)
	}
	if _, ok := errors.AsType[*strictjson.Error](schema.NoFields([]byte(`[]`))); !ok {
		t.Error("an array is taken for a document without fields")
	}
}

func TestSnoozeKey(t *testing.T) {
	for _, key := range []string{"1#balancer/health#a", "x", "ä#\U0001f600", "a/b+c"} {
		shown := schema.ShowSnooze(hook.OpenSnooze{Key: key, Snooze: hook.Snooze{UntilMS: 1}}, "", "").Key
		if got, ok := schema.SnoozeKey(shown); !ok || got != key {
			t.Errorf("SnoozeKey(%s) = %q, %t; want %q", shown, got, ok, key)
		}
	}
	for _, bad := range []string{"", "a", "YQ==", "YR", "Y\nQ", "YQ\r\n", "+/8", "-_8", "/w"} {
		if got, ok := schema.SnoozeKey(bad); ok {
			t.Errorf("SnoozeKey(%q) = %q; want none", bad, got)
		}
	}
}

func TestShowRequest(t *testing.T) {
	r := hook.Request{Method: "PUT", URL: "https://ok.test/secret?q", Body: []byte("b"), Headers: map[string][]string{
		"X-Api-Key": {"k"}, "Authorization": {"a", "b"}, "Webhook-Signature": {"v1,x"}, "X-Kong-Signature": {"sha256=x"}, "X-Plain": {"p"},
	}}
	rendering := func(config string) schema.Kept {
		t.Helper()
		got, err := schema.NewRendering([]byte(`{"hook":{"id":"C57340AB-9fed-40fd-bb7e-1cef8d37c2df","source":"a","config":` + config + `}}`))
		if err != nil || got.HookID != id {
			t.Fatalf("NewRendering = %+v, %v", got, err)
		}
		return got.Kept
	}
	const hidden = hook.Redacted
	for name, c := range map[string]struct {
		v    schema.View
		kept schema.Kept
		want schema.ShownRequest
	}{
		"nothing is kept": {schema.ForAdmin, schema.Kept{}, schema.ShownRequest{URL: r.URL, Headers: map[string]string{
			"X-Api-Key": "k", "Authorization": "a, b", "Webhook-Signature": "v1,x", "X-Kong-Signature": "sha256=x", "X-Plain": "p",
		}}},
		"a reader": {schema.ForReader, schema.KeptAll(), schema.ShownRequest{URL: "https://ok.test/" + hidden, Headers: map[string]string{
			"X-Api-Key": hidden, "Authorization": hidden, "Webhook-Signature": hidden, "X-Kong-Signature": hidden, "X-Plain": "p",
		}}},
		"a secret that was sent redacted": {schema.ForAdmin, rendering(`{"secret":"[redacted]","headers":{"x-api-key":"mine"}}`), schema.ShownRequest{URL: r.URL, Headers: map[string]string{
			"X-Api-Key": "k", "Authorization": "a, b", "Webhook-Signature": hidden, "X-Kong-Signature": hidden, "X-Plain": "p",
		}}},
		"headers that were sent redacted": {schema.ForAdmin, rendering(`{"secret":"mine","headers":{"x-api-KEY":"[redacted]","x-plain":"[redacted]"}}`), schema.ShownRequest{URL: r.URL, Headers: map[string]string{
			"X-Api-Key": hidden, "Authorization": "a, b", "Webhook-Signature": "v1,x", "X-Kong-Signature": "sha256=x", "X-Plain": "p",
		}}},
	} {
		body := "b"
		c.want.Method, c.want.Body = "PUT", &body
		if diff := cmp.Diff(&c.want, schema.ShowRequest(r, c.v, c.kept)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	r.Body = nil
	if got := schema.ShowRequest(r, schema.ForAdmin, schema.Kept{}); got.Body != nil {
		t.Errorf("body %q of a request without one; want null", *got.Body)
	}
}

func TestNewRendering(t *testing.T) {
	got, err := schema.NewRendering([]byte(`{"source":"s","event":"e","workspace":"w","data":{"n": 1.0},"hook":{"id":5,"config":[],"handler":"log"}}`))
	if err != nil || got.Source != "s" || got.Event != "e" || got.Workspace != "w" || string(got.Data) != `{"n":1.0}` || string(got.Hook) != `{"id":5,"config":[],"handler":"log"}` || got.HookID != "" {
		t.Errorf("NewRendering = %+v, %v", got, err)
	}
	t.Run("beside its own faults it is what was right", func(t *testing.T) {
		got, err := schema.NewRendering([]byte(`{"data":1,"hook":{"a":1},"event":"a/b"}`))
		if faults, ok := errors.AsType[*schema.Faults](err); !ok || string(got.Hook) != `{"a":1}` || len(faults.Error()) == 0 {
			t.Errorf("NewRendering = %+v, %v", got, err)
		}
	})
	t.Run("a form says the same", func(t *testing.T) {
		doc, err := schema.RenderingForm().JSON("hook.source=a&hook.handler=webhook&hook.config.url=http://x&hook.config.timeout=5&hook.tags=t&data.a.b=1&event=e")
		if want := `{"data":{"a":{"b":"1"}},"event":"e","hook":{"config":{"timeout":5,"url":"http://x"},"handler":"webhook","source":"a","tags":["t"]}}`; err != nil || string(doc) != want {
			t.Errorf("form = %s, %v; want %s", doc, err, want)
		}
	})
}

// FuzzRequests: whatever is read is a request, or an error of one of two kinds.
func FuzzRequests(f *testing.F) {
	for _, seed := range []string{
		`{"status":"failed","since":"2026-11-21T18:00:00Z","until":5,"dry_run":true}`, `{"finish":true}`, `{}`, `[]`, `{"since":1e400}`,
		`{"hook":{"id":"c57340ab-9fed-40fd-bb7e-1cef8d37c2df","config":{"secret":"[redacted]","headers":{"a":"[redacted]","b":{}}}},"data":{}}`,
		`{"hook":{"config":{"headers":[]},"id":{}},"data":null,"source":"a/b"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		_, redelivery := schema.NewRedelivery(doc)
		_, rotation := schema.NewRotation(doc)
		rendering, render := schema.NewRendering(doc)
		for _, err := range []error{redelivery, rotation, render, schema.NoFields(doc)} {
			faults, isFaults := errors.AsType[*schema.Faults](err)
			if _, isJSON := errors.AsType[*strictjson.Error](err); err != nil && !isFaults && !isJSON {
				t.Fatalf("%s: %T %v", doc, err, err)
			}
			if isFaults && (faults.Error() == "" || !json.Valid(encode(t, faults))) {
				t.Fatalf("faults of %s: %s", doc, encode(t, faults))
			}
		}
		if rendering.Hook != nil && !json.Valid(rendering.Hook) {
			t.Fatalf("hook of %s: %s", doc, rendering.Hook)
		}
		if key, ok := schema.SnoozeKey(string(doc)); ok && schema.ShowSnooze(hook.OpenSnooze{Key: key}, "", "").Key != string(doc) {
			t.Fatalf("SnoozeKey(%q) = %q, which is shown otherwise", doc, key)
		}
	})
}
