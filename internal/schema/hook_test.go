package schema_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"eventhooks/internal/hook"
	"eventhooks/internal/schema"
)

func TestShowHook(t *testing.T) {
	const rest = `"name":null,"enabled":true,"disabled_reason":null,"tags":null,"filter":null,"retry":null,"workspace":null`
	tests := []struct{ handler, shown string }{
		{
			"webhook",
			`{"id":"` + id + `","created_at":0,"updated_at":0,"source":"a","event":null,"handler":"webhook","on_change":null,"snooze":null,` + rest + `,
			  "config":{"url":"http://x.test/","headers":{},"secret":null,"old_secret_until":null,"ssl_verify":true,"timeout":10,"signature_algorithm":"sha256"}}`,
		},
		{
			"webhook-custom",
			`{"id":"` + id + `","created_at":0,"updated_at":0,"source":"a","event":null,"handler":"webhook-custom","on_change":null,"snooze":null,` + rest + `,
			  "config":{"url":"http://x.test/","headers":{},"secret":null,"old_secret_until":null,"ssl_verify":true,"timeout":10,"signature_algorithm":"sha256",
			  "method":"POST","headers_format":false,"payload":null,"payload_format":true,"body":null,"body_format":true}}`,
		},
		{"log", `{"id":"` + id + `","created_at":0,"updated_at":0,"source":"a","event":null,"handler":"log","on_change":null,"snooze":null,` + rest + `,"config":{}}`},
		{"lambda", `{"id":"` + id + `","created_at":0,"updated_at":0,"source":"a","event":null,"handler":"lambda","on_change":null,"snooze":null,` + rest + `,"config":{"functions":["return 1"]}}`},
	}
	for _, tt := range tests {
		t.Run("all that is not set is null: "+tt.handler, func(t *testing.T) {
			got := encode(t, schema.ShowHook(newHook(t, bases[tt.handler]), schema.ForAdmin))
			if diff := cmp.Diff(decode(t, []byte(tt.shown)), decode(t, got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	t.Run("a filter and functions are shown as they were sent", func(t *testing.T) {
		const filter = `{"n":[1.50,12345678901234567890,1e0],"s":[{"prefix":"<é\u003c"}]}`
		const functions = `["return function (data)\n  return data.a < 1 and \"&\"\nend"]`
		h := newHook(t, `{"source":"a","handler":"lambda","filter":`+filter+`,"config":{"functions":`+functions+`}}`)
		shown := string(encode(t, schema.ShowHook(h, schema.ForReader)))
		if !strings.Contains(shown, `"filter":`+filter) || !strings.Contains(shown, `"functions":`+functions) {
			t.Errorf("shown: %s", shown)
		}
	})
	t.Run("the end of a rotation is shown, the secrets are not", func(t *testing.T) {
		for _, handler := range []string{"webhook", "webhook-custom"} {
			h := rotating(t, handler)
			shown := string(encode(t, schema.ShowHook(h, schema.ForReader)))
			if !strings.Contains(shown, `"secret":"[redacted]","old_secret_until":1795284000,`) || strings.Contains(shown, "sesame") {
				t.Errorf("shown: %s", shown)
			}
		}
	})
}

// rotating returns a hook whose secret has just been rotated.
func rotating(t testing.TB, handler string) hook.Hook {
	t.Helper()
	h := newHook(t, bases[handler])
	h.Config.Secret, h.Config.OldSecret = hook.NewSecret("new sesame"), hook.NewSecret("old sesame")
	h.Config.OldSecretUntil = 1795284000
	return h
}

func TestHook_rotation(t *testing.T) {
	kept := [2]string{"new sesame", "old sesame"}
	none := [2]string{"", ""}
	tests := []struct {
		name, doc string
		put       bool
		want      [2]string // secret and old secret
	}{
		{"a patch of something else keeps both", `{"name":"n","config":{"timeout":5}}`, false, kept},
		{"a patch that writes the redacted secret back keeps both", `{"config":{"secret":"[redacted]"}}`, false, kept},
		{"a patch that writes another secret ends the rotation", `{"config":{"secret":"mine"}}`, false, [2]string{"mine", ""}},
		{"a patch that writes the same secret ends the rotation", `{"config":{"secret":"new sesame"}}`, false, [2]string{"new sesame", ""}},
		{"a patch that writes null clears both", `{"config":{"secret":null}}`, false, none},
		{"the end of the grace is not for writing", `{"config":{"old_secret_until":1}}`, false, kept},
		{"another handler that signs keeps both", `{"handler":"webhook-custom","config":{"method":"PUT"}}`, false, kept},
		{"a handler that does not sign drops both", `{"handler":"log"}`, false, none},
		{"a put of the redacted secret keeps both", `{"source":"a","handler":"webhook","config":{"url":"http://x.test/","secret":"[redacted]","old_secret_until":null}}`, true, kept},
		{"a put of another secret ends the rotation", `{"source":"a","handler":"webhook","config":{"url":"http://x.test/","secret":"mine"}}`, true, [2]string{"mine", ""}},
		{"a put of null clears both", `{"source":"a","handler":"webhook","config":{"url":"http://x.test/","secret":null}}`, true, none},
		{"a put without a secret clears both", bases["webhook"], true, none},
		{"a put of another handler that signs may keep both", `{"source":"a","handler":"webhook-custom","config":{"method":"PUT","url":"http://x.test/","secret":"[redacted]"}}`, true, kept},
		{"a put of a handler that does not sign drops both", bases["lambda"], true, none},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			stored := rotating(t, "webhook")
			h, err := schema.PatchHook([]byte(tt.doc), stored)
			if tt.put {
				h, err = schema.NewHook([]byte(tt.doc), id, &stored)
			}
			if err != nil {
				t.Fatal(err)
			}
			until := int64(0)
			if tt.want[1] != "" {
				until = stored.Config.OldSecretUntil
			}
			got := [2]string{h.Config.Secret.Reveal(), h.Config.OldSecret.Reveal()}
			if got != tt.want || h.Config.OldSecretUntil != until {
				t.Errorf("secrets = %q until %d; want %q until %d", got, h.Config.OldSecretUntil, tt.want, until)
			}
		})
	}
	t.Run("a hook without a secret has none to keep", func(t *testing.T) {
		stored := newHook(t, bases["webhook"])
		_, err := schema.PatchHook([]byte(`{"config":{"secret":"[redacted]"}}`), stored)
		if want := `schema violation (config.secret: "[redacted]" keeps what is stored, and nothing is)`; err == nil || err.Error() != want {
			t.Errorf("PatchHook = %v; want %s", err, want)
		}
	})
}

// TestNewHook_besideFaults: what is right can be judged by who knows more, each
// element in its place.
func TestNewHook_besideFaults(t *testing.T) {
	h, err := schema.NewHook([]byte(`{"handler":"webhook-custom","snooze":-1,"config":{"method":"PUT","headers":{"Host":"x","X-A":5,"X-B":null},"body":"{{","secret":5}}`), id, nil)
	want := hook.Hook{ID: id, Handler: "webhook-custom", Enabled: true, Config: hook.Config{
		Method: "PUT", Headers: map[string]string{"Host": "x", "X-A": "", "X-B": ""}, SSLVerify: true, PayloadFormat: true, BodyFormat: true,
	}}
	body := "{{"
	want.Config.Body = &body
	if diff := cmp.Diff(want, h, same); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if message := faultsOf(t, err).Error(); !strings.HasPrefix(message, "6 schema violations (config.headers.X-A: expected a string; config.headers.X-B: expected a string; config.secret: ") {
		t.Errorf("message = %s", message)
	}

	h, err = schema.NewHook([]byte(`{"source":"a","handler":"lambda","config":{"functions":["one",2,"","four"]}}`), id, nil)
	if want := []string{"one", "", "", "four"}; err == nil || !slices.Equal(h.Config.Functions, want) {
		t.Errorf("functions = %q, %v; want %q", h.Config.Functions, err, want)
	}

	h, err = schema.PatchHook([]byte(`{"handler":"newer","config":{"url":"x"}}`), newHook(t, bases["webhook"]))
	if err == nil || h.Handler != "" || h.Config.URL != "" {
		t.Errorf("a hook of an unknown handler = %+v, %v; want neither handler nor config", h, err)
	}
}

// TestPatchHook_ofAnotherHandler: what the new handler's config does not have
// is dropped, what both have stays, and what only it has is asked for.
func TestPatchHook_ofAnotherHandler(t *testing.T) {
	full := map[string]string{
		"webhook": `{"source":"a","handler":"webhook","filter":{"a":["b"]},"config":{"url":"http://x.test/p","headers":{"X-Key":"v"},"secret":"s","ssl_verify":false,"timeout":5,"signature_algorithm":"sha1"}}`,
		"webhook-custom": `{"source":"a","handler":"webhook-custom","filter":{"a":["b"]},"config":{"url":"http://x.test/p","headers":{"X-Key":"v"},"secret":"s","ssl_verify":false,"timeout":5,"signature_algorithm":"sha1",
		  "method":"PUT","headers_format":true,"payload":{"a":"b"},"payload_format":false,"body":"b","body_format":false}}`,
		"log":    `{"source":"a","handler":"log","filter":{"a":["b"]}}`,
		"lambda": `{"source":"a","handler":"lambda","filter":{"a":["b"]},"config":{"functions":["return 1"]}}`,
	}
	asked := map[string]string{
		"webhook":        "schema violation (config.url: required field missing)",
		"webhook-custom": "2 schema violations (config.method: required field missing; config.url: required field missing)",
		"lambda":         "schema violation (config.functions: required field missing)",
	}
	for from := range full {
		for to := range full {
			if from == to {
				continue
			}
			t.Run("from "+from+" to "+to, func(t *testing.T) {
				stored := newHook(t, full[from])
				h, err := schema.PatchHook([]byte(`{"handler":"`+to+`"}`), stored)
				message := asked[to]
				if stored.Calls() && to == "webhook" {
					message = ""
				}
				if stored.Calls() && to == "webhook-custom" {
					message = "schema violation (config.method: required field missing)"
				}
				if message != "" {
					if err == nil || err.Error() != message {
						t.Fatalf("PatchHook = %v; want %s", err, message)
					}
					h, err = schema.PatchHook([]byte(`{"handler":"`+to+`","config":`+missingOf(t, full, from, to)+`}`), stored)
				}
				if err != nil {
					t.Fatal(err)
				}
				want := newHook(t, full[to])
				if to == "webhook-custom" && from == "webhook" { // what webhook has not is at its default
					want.Config.HeadersFormat, want.Config.Payload, want.Config.PayloadFormat = false, nil, true
					want.Config.Body, want.Config.BodyFormat = nil, true
				}
				if diff := cmp.Diff(want, h, same); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	}
}

// missingOf returns the fields of to's config that from's has not; of
// webhook-custom, after webhook, the required one only.
func missingOf(t *testing.T, full map[string]string, from, to string) string {
	t.Helper()
	config := func(handler string) map[string]any {
		c, _ := decode(t, []byte(full[handler])).(map[string]any)["config"].(map[string]any)
		return c
	}
	c := config(to)
	if from == "webhook" && to == "webhook-custom" {
		c = map[string]any{"method": c["method"]}
	}
	return string(encode(t, c))
}

func TestPatchHook_filter(t *testing.T) {
	stored := newHook(t, `{"source":"a","handler":"log","filter":{"a":["b"],"c":["d"]}}`)
	for doc, want := range map[string]string{
		`{"name":"n"}`:           `{"a":["b"],"c":["d"]}`,
		`{"filter":{"x":["y"]}}`: `{"x":["y"]}`, // a map, so replaced as a whole
		`{"filter":null}`:        ``,
	} {
		h, err := schema.PatchHook([]byte(doc), stored)
		if err != nil || string(h.Filter) != want {
			t.Errorf("PatchHook(%s): filter = %s, %v; want %s", doc, h.Filter, err, want)
		}
	}
	t.Run("a stored one that this version cannot read is in nobody's way", func(t *testing.T) {
		stored.Filter = []byte(`{"a":[{"newer":1}]}`)
		h, err := schema.PatchHook([]byte(`{"name":"n"}`), stored)
		if err != nil || string(h.Filter) != string(stored.Filter) {
			t.Errorf("PatchHook = %s, %v; want the filter as it was", h.Filter, err)
		}
	})
}

// TestHook_headersOfOneName: spellings that differ in case keep each their own
// value, so that reading and writing back is not chance.
func TestHook_headersOfOneName(t *testing.T) {
	h := newHook(t, `{"source":"a","handler":"webhook","config":{"url":"http://x.test/","headers":{"X-Key":"1","x-key":"2","X-KEY":"3"}}}`)
	for range 20 {
		sameAgain(t, h)
	}
	again, err := schema.NewHook([]byte(`{"source":"a","handler":"webhook","config":{"url":"http://x.test/","headers":{"x-Key":"[redacted]"}}}`), id, &h)
	if want := map[string]string{"x-Key": "3"}; err != nil || !maps.Equal(again.Config.Headers, want) {
		t.Errorf("headers = %v, %v; want %v", again.Config.Headers, err, want)
	}
}

// TestHook_property: generated hooks of every handler are accepted, and read
// and written back they are the same; also as changes of each other.
func TestHook_property(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		doc, another := hookDocs().Draw(r, "doc"), hookDocs().Draw(r, "another")
		h, err := schema.NewHook(doc, id, nil)
		if err != nil {
			r.Fatalf("NewHook(%s) = %v", doc, err)
		}
		if h.Calls() && !h.Config.Secret.IsZero() && rapid.Bool().Draw(r, "rotating") {
			h.Config.OldSecret, h.Config.OldSecretUntil = hook.NewSecret("before"), 1795284000
		}
		sameAgain(tb{t, r}, h)
		// A whole document as a patch is that document, but for what it leaves
		// out; as a put it is that document.
		patched, err := schema.PatchHook(another, h)
		if err != nil {
			r.Fatalf("PatchHook(%s) of %s = %v", another, doc, err)
		}
		sameAgain(tb{t, r}, patched)
		put, err := schema.NewHook(another, id, &h)
		if err != nil {
			r.Fatalf("NewHook(%s) = %v", another, err)
		}
		fresh, err := schema.NewHook(another, id, nil)
		if diff := cmp.Diff(fresh, put, same); err != nil || diff != "" {
			r.Fatalf("a put over another hook is not the hook that was put: %v (-want +got):\n%s", err, diff)
		}
	})
}

// tb is a testing.TB that fails the case at hand.
type tb struct {
	testing.TB
	r *rapid.T
}

func (t tb) Helper()                           {}
func (t tb) Fatal(args ...any)                 { t.r.Fatal(args...) }
func (t tb) Fatalf(format string, args ...any) { t.r.Fatalf(format, args...) }

// hookDocs generates documents that are accepted, of every handler.
func hookDocs() *rapid.Generator[[]byte] {
	name := rapid.StringMatching(`[a-zA-Z0-9_.:é -]{1,60}`)
	value := rapid.StringMatching(`[ -~\té]{1,40}`).Filter(func(s string) bool { return s != hook.Redacted })
	long := rapid.StringN(1, 60, -1).Filter(func(s string) bool { return s != hook.Redacted })
	data := rapid.SampledFrom([]string{
		`null`, `{}`, `{"a":"b"}`, `{"text":"{{a}} \u2028 <","n":[1.50,-0,1e+2,12345678901234567890],"o":{"":{"x":null}}}`,
	})
	pattern := rapid.SampledFrom([]string{
		`null`, `{"a":["b"]}`, `{"a":{"b":[1.50,null,{"prefix":"<"}]}}`, `{"$or":[{"a":[1]},{"b":[{"exists":false}]}]}`,
	})
	return rapid.Custom(func(r *rapid.T) []byte {
		doc := map[string]any{}
		// put adds a field, at times.
		put := func(o map[string]any, name string, value func() any) {
			switch rapid.IntRange(0, 3).Draw(r, name+"?") {
			case 0:
				o[name] = nil
			case 1:
			default:
				o[name] = value()
			}
		}
		text := func(g *rapid.Generator[string]) func() any { return func() any { return g.Draw(r, "text") } }
		boolean := func() any { return rapid.Bool().Draw(r, "bool") }
		integer := func(lo, hi int) func() any { return func() any { return rapid.IntRange(lo, hi).Draw(r, "int") } }
		raw := func(g *rapid.Generator[string]) func() any {
			return func() any { return json.RawMessage(g.Draw(r, "raw")) }
		}

		handler := rapid.SampledFrom([]string{"webhook", "webhook-custom", "log", "lambda"}).Draw(r, "handler")
		doc["source"], doc["handler"] = name.Draw(r, "source"), handler
		put(doc, "event", text(name))
		put(doc, "on_change", boolean)
		put(doc, "snooze", integer(0, 31536000))
		put(doc, "name", text(name))
		put(doc, "enabled", boolean)
		put(doc, "tags", func() any { return rapid.SliceOfN(name, 0, 5).Draw(r, "tags") })
		put(doc, "workspace", text(name))
		put(doc, "filter", raw(pattern))
		put(doc, "retry", func() any {
			retry := map[string]any{}
			put(retry, "max_attempts", integer(1, 50))
			put(retry, "max_age", integer(1, 432000))
			return retry
		})
		config := map[string]any{}
		doc["config"] = config
		switch handler {
		case "log":
			if rapid.Bool().Draw(r, "without config") {
				delete(doc, "config")
			}
		case "lambda":
			config["functions"] = rapid.SliceOfN(long, 1, 5).Draw(r, "functions")
		default:
			config["url"] = rapid.SampledFrom([]string{
				"http://x.test", "https://x.test:8443/", "http://x.test/a/b?c=d#e", "http://x.test/?q", "http://x.test#f", "https://[::1]/{{a}}", "HTTP://X.test/%41",
			}).Draw(r, "url")
			put(config, "headers", func() any {
				return rapid.MapOfN(rapid.SampledFrom([]string{"X-A", "x-a", "Authorization", "X-Api-Key", "X.Dot", "Content-Type"}), value, 0, 4).Draw(r, "headers")
			})
			put(config, "secret", text(long))
			put(config, "ssl_verify", boolean)
			put(config, "timeout", integer(1, 30))
			put(config, "signature_algorithm", text(rapid.SampledFrom([]string{"sha256", "sha1"})))
		}
		if handler == "webhook-custom" {
			config["method"] = rapid.SampledFrom([]string{"GET", "POST", "PROPFIND"}).Draw(r, "method")
			put(config, "headers_format", boolean)
			put(config, "payload", raw(data))
			put(config, "payload_format", boolean)
			put(config, "body", text(long))
			put(config, "body_format", boolean)
		}
		b, err := json.Marshal(doc)
		if err != nil {
			r.Fatal(err)
		}
		return b
	})
}
