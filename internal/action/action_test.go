package action_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"eventhooks/internal/action"
	"eventhooks/internal/egress"
	"eventhooks/internal/hook"
	"eventhooks/internal/render"
	"eventhooks/internal/sign"
	"eventhooks/internal/strictjson"

	"github.com/google/go-cmp/cmp"
)

var now = time.Date(2026, 11, 21, 18, 0, 0, 123_000_000, time.UTC)

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

var healthEvent = hook.Event{
	ID: "0197a1b2-0000-7000-8000-000000000001", Source: "balancer", Event: "health", Time: now.Add(-time.Second),
	Data:        []byte(`{"upstream_id":"u1","ip":"10.16.0.2","port":3000,"hostname":"web1","health":"unhealthy","big":12345678901234567890,"f":1.50}`),
	Traceparent: traceparent,
}

func webhook(url string) hook.Hook {
	return hook.Hook{
		ID: "c57340ab-9fed-40fd-bb7e-1cef8d37c2df", Source: "balancer", Event: "health", Handler: hook.HandlerWebhook, Enabled: true, Changed: 1,
		Config: hook.Config{URL: url, Secret: hook.NewSecret("topsecret"), SSLVerify: true},
	}
}

func custom(url, method string) hook.Hook {
	h := webhook(url)
	h.Handler = hook.HandlerCustom
	h.Config.Method, h.Config.BodyFormat, h.Config.PayloadFormat = method, true, true
	return h
}

func newRunner(t testing.TB, log io.Writer) *action.Runner {
	t.Helper()
	c, err := egress.New(egress.Options{AllowLoopback: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdle)
	return action.New(action.Options{Client: c, Log: log, Version: "1.2.3"})
}

// received is one request as a receiver saw it.
type received struct {
	method, path string
	header       http.Header
	body         string
}

// receiver answers with answer and hands on what it got.
func receiver(t testing.TB, answer http.HandlerFunc) (url string, got chan received) {
	t.Helper()
	got = make(chan received, 16)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil {
			t.Errorf("read request: %v", err)
		}
		got <- received{r.Method, r.URL.Path, r.Header, string(body)}
		if answer != nil {
			answer(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL, got
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func TestDo_webhook(t *testing.T) {
	url, got := receiver(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Answer", "yes")
		fmt.Fprint(w, "thanks")
	})
	h := webhook(url + "/in")
	h.Config.Headers = map[string]string{"x-custom-header": "My Value"}
	out := newRunner(t, nil).Do(t.Context(), h, healthEvent, now)
	if out.Verdict != hook.Success || out.Code != 200 || out.Error != "" || out.Reason != "" || out.IP != "127.0.0.1" || out.Took <= 0 {
		t.Errorf("Do = %+v; want a success", out)
	}
	if out.Response == nil || out.Response.Code != 200 || out.Response.Body != "thanks" || out.Response.Headers["X-Answer"] != "yes" {
		t.Errorf("Response = %+v; want the receiver's answer", out.Response)
	}
	r := <-got
	if r.method != "POST" || r.path != "/in" {
		t.Errorf("the receiver got %s %s; want POST /in", r.method, r.path)
	}
	const want = `{"source":"balancer","event":"health","upstream_id":"u1","ip":"10.16.0.2","port":3000,"hostname":"web1","health":"unhealthy","big":12345678901234567890,"f":1.50}`
	if r.body != want {
		t.Errorf("body:\n%s\nwant:\n%s", r.body, want)
	}
	for name, want := range map[string]string{
		"Content-Type":      "application/json",
		"X-Custom-Header":   "My Value",
		"User-Agent":        "eventhooks/1.2.3",
		"Webhook-Id":        healthEvent.ID + "_" + h.ID,
		"Webhook-Timestamp": "1795284000",
		"Traceparent":       traceparent,
		"Webhook-Signature": sign.Standard(h.Config.Secret, healthEvent.ID+"_"+h.ID, now, []byte(r.body)),
		"X-Kong-Signature":  sign.Kong(h.Config.Secret, hook.SignatureSHA256, []byte(r.body)),
	} {
		if got := r.header.Get(name); got != want {
			t.Errorf("%s: %q; want %q", name, got, want)
		}
	}
	if err := sign.Verify(h.Config.Secret, r.header, []byte(r.body), now); err != nil {
		t.Errorf("Verify: %v", err)
	}
}

func TestRequest_webhookBody(t *testing.T) {
	r := newRunner(t, nil)
	for _, c := range []struct{ name, source, event, data, want string }{
		{"no data", "s", "e", `{}`, `{"source":"s","event":"e"}`},
		{"whitespace stays harmless", "s", "e", ` { "a" : 1 } `, `{"source":"s","event":"e", "a" : 1 } `},
		{"the event's own source and event win", "s", "e", `{"a":1.0,"source":"theirs","event":{"x":1},"b":"\u00e9"}`, `{"source":"s","event":"e","a":1.0,"b":"\u00e9"}`},
		{"nothing but those", "s", "e", `{"event":1,"source":2}`, `{"source":"s","event":"e"}`},
		{"also when spelled with escapes", "s", "e", `{"sourc\u0065":"theirs","q\"":1,"é":2}`, `{"source":"s","event":"e","q\"":1,"é":2}`},
		{"only at the top", "s", "e", `{"a":{"source":"theirs"}}`, `{"source":"s","event":"e","a":{"source":"theirs"}}`},
		{"bytes stay as sent", "s", "e", `{"n":1E+2,"s":"\u003c<\/","z":-0.0}`, `{"source":"s","event":"e","n":1E+2,"s":"\u003c<\/","z":-0.0}`},
		{"Kong's ping", hook.PingSource, hook.PingEvent, `{"event_hooks":{"id":"h"}}`, `{"source":"kong:event_hooks","event":"ping","event_hooks":{"id":"h"}}`},
		{"a name that needs escapes", `a"b`, "é\n", `{}`, `{"source":"a\"b","event":"é\n"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			req, err := r.Request(webhook("http://127.0.0.1"), hook.Event{ID: "e", Source: c.source, Event: c.event, Data: []byte(c.data)}, now)
			if err != nil || string(req.Body) != c.want {
				t.Errorf("body %s, %v; want %s", req.Body, err, c.want)
			}
			if !json.Valid(req.Body) {
				t.Errorf("the body is not JSON: %s", req.Body)
			}
		})
	}
	for _, data := range []string{"", "[]", "{", `{"a":1,"a":2}`, `{"a":tru}`} {
		ev := hook.Event{ID: "e", Source: "s", Event: "e", Data: []byte(data)}
		if req, err := r.Request(webhook("http://127.0.0.1"), ev, now); err == nil {
			t.Errorf("Request with data %q = %s; want an error", data, req.Body)
		}
		if out := r.Do(t.Context(), webhook("http://127.0.0.1"), ev, now); out.Verdict != hook.Final || out.Reason != hook.ReasonUnrendered {
			t.Errorf("Do with data %q = %+v; want final, unrendered", data, out)
		}
	}
}

func TestRequest_headers(t *testing.T) {
	r := newRunner(t, nil)
	get := func(h hook.Hook, ev hook.Event) map[string][]string {
		t.Helper()
		req, err := r.Request(h, ev, now)
		if err != nil {
			t.Fatal(err)
		}
		return req.Headers
	}
	t.Run("no secret, no signatures; no trace, no traceparent", func(t *testing.T) {
		h := webhook("http://127.0.0.1")
		h.Config.Secret = hook.Secret{}
		ev := healthEvent
		ev.Traceparent = ""
		want := map[string][]string{
			"Content-Type": {"application/json"}, "User-Agent": {"eventhooks/1.2.3"},
			"Webhook-Id": {ev.ID + "_" + h.ID}, "Webhook-Timestamp": {"1795284000"},
		}
		if diff := cmp.Diff(want, get(h, ev)); diff != "" {
			t.Errorf("headers (-want +got):\n%s", diff)
		}
	})
	t.Run("Kong's older signature", func(t *testing.T) {
		h := webhook("http://127.0.0.1")
		h.Config.SignatureAlgo = hook.SignatureSHA1
		if got := get(h, healthEvent)["X-Kong-Signature"][0]; !strings.HasPrefix(got, "sha1=") {
			t.Errorf("x-kong-signature = %q; want sha1=…", got)
		}
	})
	t.Run("a content type of the hook's own stays", func(t *testing.T) {
		h := webhook("http://127.0.0.1")
		h.Config.Headers = map[string]string{"CONTENT-type": "application/cloudevents+json"}
		if got := get(h, healthEvent)["Content-Type"]; len(got) != 1 || got[0] != "application/cloudevents+json" {
			t.Errorf("Content-Type = %q; want the hook's", got)
		}
	})
	t.Run("the webhook handler has no templates", func(t *testing.T) {
		h := webhook("http://127.0.0.1")
		h.Config.HeadersFormat = true
		h.Config.Headers = map[string]string{"x-a": "{{health}}"}
		if got := get(h, healthEvent)["X-A"][0]; got != "{{health}}" {
			t.Errorf("X-A = %q; want it as given", got)
		}
	})
	t.Run("a traceparent that is no header value is left out", func(t *testing.T) {
		ev := healthEvent
		ev.Traceparent = "00-\r\nx-evil: 1"
		if got, ok := get(webhook("http://127.0.0.1"), ev)["Traceparent"]; ok {
			t.Errorf("Traceparent = %q; want none", got)
		}
	})
	t.Run("a hook that was never stored has an id of zeros", func(t *testing.T) {
		h := webhook("http://127.0.0.1")
		h.ID, h.Changed = "", 0
		headers := get(h, healthEvent)
		id := healthEvent.ID + "_00000000-0000-0000-0000-000000000000"
		if got := headers["Webhook-Id"]; len(got) != 1 || got[0] != id {
			t.Errorf("Webhook-Id = %q; want %s", got, id)
		}
		req, err := r.Request(h, healthEvent, now)
		if err != nil {
			t.Fatal(err)
		}
		if err := sign.Verify(h.Config.Secret, req.Headers, req.Body, now); err != nil {
			t.Errorf("Verify: %v", err)
		}
	})
	t.Run("nobody else's map is touched", func(t *testing.T) {
		h := webhook("http://127.0.0.1")
		h.Config.Headers = map[string]string{"x-a": "1"}
		get(h, healthEvent)["X-A"][0] = "changed"
		if got := get(h, healthEvent)["X-A"][0]; got != "1" {
			t.Errorf("X-A = %q after a caller changed its request; want 1", got)
		}
	})
}

func TestDo_custom(t *testing.T) {
	str := func(s string) *string { return &s }
	type want struct{ contentType, body string }
	for _, c := range []struct {
		name string
		hook func(*hook.Hook)
		want want
	}{
		{"a payload is JSON where the content type is", func(h *hook.Hook) {
			h.Config.Headers = map[string]string{"content-type": "application/json; charset=utf-8"}
			h.Config.Payload = []byte(`{"text":"Upstream {{upstream_id}} is {{health}}. Tried to connect to port {{port}} on {{hostname}}/{{ip}}"}`)
		}, want{"application/json; charset=utf-8", `{"text":"Upstream u1 is unhealthy. Tried to connect to port 3000 on web1/10.16.0.2"}`}},
		{"a payload is a form otherwise", func(h *hook.Hook) {
			h.Config.Payload = []byte(`{"text":"{{health}} & more","a":"{{port}}"}`)
		}, want{"application/x-www-form-urlencoded", "a=3000&text=unhealthy+%26+more"}},
		{"a form under the hook's own content type", func(h *hook.Hook) {
			h.Config.Headers = map[string]string{"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
			h.Config.Payload = []byte(`{"a":"{{port}}"}`)
		}, want{"application/x-www-form-urlencoded; charset=utf-8", "a=3000"}},
		{"payload_format off", func(h *hook.Hook) {
			h.Config.Headers = map[string]string{"content-type": "application/vnd.api+json"}
			h.Config.Payload, h.Config.PayloadFormat = []byte(`{"a":"{{port}}"}`), false
		}, want{"application/vnd.api+json", `{"a":"{{port}}"}`}},
		{"nested payload", func(h *hook.Hook) {
			h.Config.Headers = map[string]string{"content-type": "application/json"}
			h.Config.Payload = []byte(`{"blocks":[{"text":"{{hostname}}","n":1}]}`)
		}, want{"application/json", `{"blocks":[{"text":"web1","n":1}]}`}},
		{"body wins over payload", func(h *hook.Hook) {
			h.Config.Payload, h.Config.Body = []byte(`{"a":"b"}`), str("{{health}} \"now\"")
		}, want{"", `unhealthy "now"`}},
		{"a JSON body", func(h *hook.Hook) {
			h.Config.Headers = map[string]string{"content-type": "application/json"}
			h.Config.Body = str(`{"port":{{port}},"text":"{{health}}","nobody":{{nobody}},"big":{{big}}}`)
		}, want{"application/json", `{"port":3000,"text":"unhealthy","nobody":null,"big":12345678901234567890}`}},
		{"body_format off", func(h *hook.Hook) {
			h.Config.Headers = map[string]string{"content-type": "application/json"}
			h.Config.Body, h.Config.BodyFormat = str(`{{not a template`), false
		}, want{"application/json", `{{not a template`}},
		{"an empty body", func(h *hook.Hook) { h.Config.Body = str("") }, want{"", ""}},
		{"neither body nor payload", func(h *hook.Hook) {}, want{"", ""}},
		{"source and event are names", func(h *hook.Hook) { h.Config.Body = str("{{source}}/{{event}}") }, want{"", "balancer/health"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			url, got := receiver(t, nil)
			h := custom(url, "PUT")
			c.hook(&h)
			if faults := action.Check(h); len(faults) > 0 {
				t.Fatalf("Check = %v; want nothing", faults)
			}
			if out := newRunner(t, nil).Do(t.Context(), h, healthEvent, now); out.Verdict != hook.Success {
				t.Fatalf("Do = %+v; want a success", out)
			}
			r := <-got
			if diff := cmp.Diff(c.want, want{r.header.Get("Content-Type"), r.body}, cmp.AllowUnexported(want{})); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
			if r.method != "PUT" {
				t.Errorf("method %s; want PUT", r.method)
			}
			if err := sign.Verify(h.Config.Secret, r.header, []byte(r.body), now); err != nil {
				t.Errorf("Verify: %v", err)
			}
		})
	}
}

func TestDo_customHeaders(t *testing.T) {
	url, got := receiver(t, nil)
	h := custom(url, "GET")
	h.Config.HeadersFormat = true
	h.Config.Headers = map[string]string{"x-health": " {{health}} on {{ port }} ", "x-plain": "as it is", "x-none": "{{nobody}}"}
	if out := newRunner(t, nil).Do(t.Context(), h, healthEvent, now); out.Verdict != hook.Success {
		t.Fatalf("Do = %+v; want a success", out)
	}
	r := <-got
	for name, want := range map[string]string{"X-Health": "unhealthy on 3000", "X-Plain": "as it is", "X-None": ""} {
		if got := r.header.Get(name); got != want {
			t.Errorf("%s: %q; want %q", name, got, want)
		}
	}

	for name, data := range map[string]string{
		"a line's end":           `{"health":"a\r\nx-evil: 1"}`,
		"a NUL":                  `{"health":"\u0000"}`,
		"a tab":                  `{"health":"a\tb"}`,
		"a value far too large":  `{"health":"` + strings.Repeat("x", action.MaxHeaderValueBytes+1) + `"}`,
		"one beyond all bounds":  `{"health":"` + strings.Repeat("x", 300<<10) + `"}`,
		"data that is no object": `[]`,
	} {
		ev := healthEvent
		ev.Data = []byte(data)
		out := newRunner(t, nil).Do(t.Context(), h, ev, now)
		if out.Verdict != hook.Final || out.Reason != hook.ReasonUnrendered || out.Error == "" || strings.Contains(out.Error, "evil") {
			t.Errorf("%s: Do = %+v; want final, unrendered, and an error that shows no value", name, out)
		}
	}
	select {
	case r := <-got:
		t.Errorf("the receiver got %+v; want nothing", r)
	default:
	}
}

func TestDo_unrendered(t *testing.T) {
	url, got := receiver(t, nil)
	body := `{"a": "{* health *}"}`
	h := custom(url, "POST")
	h.Config.Headers = map[string]string{"content-type": "application/json"}
	h.Config.Body = &body
	ev := healthEvent
	ev.Data = []byte(`{"health":"a SECRET \" b"}`)
	out := newRunner(t, nil).Do(t.Context(), h, ev, now)
	if out.Verdict != hook.Final || out.Reason != hook.ReasonUnrendered || strings.Contains(out.Error, "SECRET") || out.Response != nil {
		t.Errorf("Do = %+v; want final, unrendered, without the value", out)
	}

	broken := `{{ a + b }} PASSWORD`
	h.Config.Body = &broken
	out = newRunner(t, nil).Do(t.Context(), h, healthEvent, now)
	if out.Verdict != hook.Final || out.Reason != hook.ReasonUnrendered || out.Error != "the hook is not valid: config.body" {
		t.Errorf("Do of a hook that does not compile = %+v; want final, unrendered, naming the field", out)
	}

	h.Handler = "smtp"
	out = newRunner(t, nil).Do(t.Context(), h, healthEvent, now)
	if out.Verdict != hook.Final || out.Reason != hook.ReasonUnrendered || !strings.Contains(out.Error, `"smtp" is not supported`) {
		t.Errorf("Do of a hook with an unknown handler = %+v; want final, saying why", out)
	}
	if len(got) > 0 {
		t.Error("the receiver was called")
	}
}

// TestDo_rotation: during a rotation's grace a receiver that knows either
// secret takes what it gets, and one that checks Kong's header knows the old.
func TestDo_rotation(t *testing.T) {
	current, old := hook.NewSecret("whsec_bmV3IHNlY3JldA=="), hook.NewSecret("topsecret")
	url, got := receiver(t, nil)
	h := webhook(url)
	h.Config.Secret, h.Config.OldSecret, h.Config.OldSecretUntil = current, old, now.Unix()+hook.RotationGrace
	end := time.Unix(h.Config.OldSecretUntil, 0)
	for _, c := range []struct {
		name    string
		at      time.Time
		by      []hook.Secret // who signs webhook-signature
		kong    hook.Secret
		refused []hook.Secret
	}{
		{"at its beginning both sign", now, []hook.Secret{current, old}, old, nil},
		{"just before its end both sign", end.Add(-time.Nanosecond), []hook.Secret{current, old}, old, nil},
		{"at its end the new one signs alone", end, []hook.Secret{current}, current, []hook.Secret{old}},
		{"long after its end the new one signs alone", end.Add(time.Hour), []hook.Secret{current}, current, []hook.Secret{old}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if out := newRunner(t, nil).Do(t.Context(), h, healthEvent, c.at); out.Verdict != hook.Success {
				t.Fatalf("Do = %+v; want a success", out)
			}
			r := <-got
			id := r.header.Get(sign.HeaderID)
			var want []string
			for _, s := range c.by {
				want = append(want, sign.Standard(s, id, c.at, []byte(r.body)))
				if err := sign.Verify(s, r.header, []byte(r.body), c.at); err != nil {
					t.Errorf("Verify with a secret that signed: %v", err)
				}
			}
			if got := r.header.Get(sign.HeaderStandard); got != strings.Join(want, " ") {
				t.Errorf("webhook-signature: %q; want %q", got, want)
			}
			if got, want := r.header.Get(sign.HeaderKong), sign.Kong(c.kong, hook.SignatureSHA256, []byte(r.body)); got != want {
				t.Errorf("x-kong-signature: %q; want %q", got, want)
			}
			for _, s := range c.refused {
				if err := sign.Verify(s, r.header, []byte(r.body), c.at); !errors.Is(err, sign.ErrMismatch) {
					t.Errorf("Verify with a secret that did not sign: %v; want ErrMismatch", err)
				}
			}
		})
	}
	t.Run("finished, the new one signs alone", func(t *testing.T) {
		h := h
		h.Config.OldSecret, h.Config.OldSecretUntil = hook.Secret{}, 0
		req, err := newRunner(t, nil).Request(h, healthEvent, now)
		if err != nil {
			t.Fatal(err)
		}
		if got := req.Headers[sign.HeaderStandard]; len(got) != 1 || strings.Contains(got[0], " ") {
			t.Errorf("webhook-signature: %q; want one", got)
		}
		if got, want := req.Headers[sign.HeaderKong], sign.Kong(current, hook.SignatureSHA256, req.Body); len(got) != 1 || got[0] != want {
			t.Errorf("x-kong-signature: %q; want %q", got, want)
		}
	})
	t.Run("Kong's older signature is of the old one too", func(t *testing.T) {
		h := h
		h.Config.SignatureAlgo = hook.SignatureSHA1
		req, err := newRunner(t, nil).Request(h, healthEvent, now)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := req.Headers[sign.HeaderKong], sign.Kong(old, hook.SignatureSHA1, req.Body); len(got) != 1 || got[0] != want {
			t.Errorf("x-kong-signature: %q; want %q", got, want)
		}
	})
}

func TestDo_everyStatus(t *testing.T) {
	url, got := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		var code int
		fmt.Sscanf(r.URL.Path, "/%d", &code)
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(code)
	})
	r := newRunner(t, nil)
	for code := 200; code <= 999; code++ {
		h := webhook(fmt.Sprintf("%s/%d", url, code))
		out := r.Do(t.Context(), h, healthEvent, now)
		<-got
		want := hook.Outcome{Verdict: hook.Retryable, Code: code}
		switch {
		case code < 300:
			want.Verdict = hook.Success
		case code == 410:
			want.Verdict, want.Reason = hook.Final, hook.ReasonGone
		}
		if out.Verdict != want.Verdict || out.Reason != want.Reason || out.Code != code || (out.Error == "") != (want.Verdict == hook.Success) {
			t.Errorf("Do on %d = %+v; want %+v", code, out, want)
		}
		if out.Response == nil || out.Response.Code != code {
			t.Errorf("Do on %d has response %+v; want the answer", code, out.Response)
		}
	}
	if len(got) > 0 {
		t.Errorf("a redirect was followed: %+v", <-got)
	}
	if out := r.Do(t.Context(), webhook(url+"/307"), healthEvent, now); out.Error != "the receiver answered 307 Temporary Redirect; redirects are not followed" {
		t.Errorf("Error = %q", out.Error)
	}
}

func TestDo_retryAfter(t *testing.T) {
	answer := make(chan string, 1)
	url, _ := receiver(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", <-answer)
		w.WriteHeader(429)
	})
	r := newRunner(t, nil)
	for value, want := range map[string]time.Duration{
		"120":    2 * time.Minute,
		"-1":     0,
		"999999": 12 * time.Hour,
		"soon":   0,
	} {
		answer <- value
		if out := r.Do(t.Context(), webhook(url), healthEvent, now); out.RetryAfter != want || out.Verdict != hook.Retryable {
			t.Errorf("Retry-After: %s gives %+v; want %v", value, out, want)
		}
	}
	answer <- now.Add(time.Hour).Format(http.TimeFormat)
	out := r.Do(t.Context(), webhook(url), healthEvent, now)
	if out.RetryAfter > time.Hour || out.RetryAfter < time.Hour-10*time.Second {
		t.Errorf("Retry-After as a date in an hour gives %v; want an hour less the attempt", out.RetryAfter)
	}
}

func TestDo_networkFailures(t *testing.T) {
	const secretPath = "/services/T000/PASSWORD?token=PASSWORD"
	refused := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		return "http://" + l.Addr().String()
	}()
	hang := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer slow.Close()
	defer close(hang)
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	secure.StartTLS()
	defer secure.Close()
	closing := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer closing.Close()

	r := newRunner(t, nil)
	check := func(name string, out hook.Outcome) {
		t.Helper()
		if out.Verdict != hook.Retryable || out.Reason != "" || out.Code != 0 || out.Error == "" || out.Response != nil {
			t.Errorf("%s: Do = %+v; want retryable, an error, no response", name, out)
		}
		if strings.Contains(out.Error, "PASSWORD") || strings.Contains(out.Error, "T000") {
			t.Errorf("%s: the error shows the URL: %s", name, out.Error)
		}
	}
	check("connection refused", r.Do(t.Context(), webhook(refused+secretPath), healthEvent, now))
	check("a certificate nobody trusts", r.Do(t.Context(), webhook(secure.URL+secretPath), healthEvent, now))
	check("closed without an answer", r.Do(t.Context(), webhook(closing.URL+secretPath), healthEvent, now))
	check("a URL that is none", r.Do(t.Context(), webhook("http://%zz"+secretPath), healthEvent, now))

	h := webhook(slow.URL + secretPath)
	h.Config.Timeout = 1
	out := r.Do(t.Context(), h, healthEvent, now)
	check("no answer in time", out)
	if !strings.Contains(out.Error, "1 s") || out.Took < time.Second || out.Took > 5*time.Second {
		t.Errorf("Do of a receiver that hangs = %+v; want an error after the hook's 1 s", out)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	check("the caller's time is up", r.Do(ctx, webhook(slow.URL+secretPath), healthEvent, now))

	h = webhook(secure.URL + secretPath)
	h.Config.SSLVerify = false
	if out := r.Do(t.Context(), h, healthEvent, now); out.Verdict != hook.Success {
		t.Errorf("Do with ssl_verify off = %+v; want a success", out)
	}
}

func TestDo_blocked(t *testing.T) {
	url, got := receiver(t, nil)
	c, err := egress.New(egress.Options{}) // loopback is refused
	if err != nil {
		t.Fatal(err)
	}
	out := action.New(action.Options{Client: c}).Do(t.Context(), webhook(url+"/PASSWORD"), healthEvent, now)
	if out.Verdict != hook.Final || out.Reason != hook.ReasonBlocked || out.Response != nil || out.Error == "" || strings.Contains(out.Error, "PASSWORD") {
		t.Errorf("Do = %+v; want final, blocked, no response", out)
	}
	if len(got) > 0 {
		t.Error("the receiver was called")
	}
}

func TestDo_responseIsBounded(t *testing.T) {
	answer := make(chan http.HandlerFunc, 1)
	url, _ := receiver(t, func(w http.ResponseWriter, r *http.Request) { (<-answer)(w, r) })
	r := newRunner(t, nil)
	do := func(a http.HandlerFunc) *hook.Response {
		t.Helper()
		answer <- a
		out := r.Do(t.Context(), webhook(url), healthEvent, now)
		if out.Response == nil {
			t.Fatalf("Do = %+v; want a response", out)
		}
		if n := len(out.Response.Body); n > hook.MaxResponseBytes || !utf8.ValidString(out.Response.Body) {
			t.Errorf("the body kept has %d bytes, UTF-8: %v", n, utf8.ValidString(out.Response.Body))
		}
		return out.Response
	}
	t.Run("a long body is cut between characters", func(t *testing.T) {
		got := do(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "x"+strings.Repeat("é", 100_000)) })
		if want := "x" + strings.Repeat("é", (hook.MaxResponseBytes-1)/2); got.Body != want {
			t.Errorf("body has %d bytes; want %d", len(got.Body), len(want))
		}
	})
	t.Run("bytes that are no text are replaced", func(t *testing.T) {
		got := do(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(append([]byte("a\xff"), bytes.Repeat([]byte("\xfe-"), 5000)...))
		})
		if !strings.HasPrefix(got.Body, "a\ufffd") {
			t.Errorf("body begins %.20q; want a and a replacement character", got.Body)
		}
	})
	t.Run("headers", func(t *testing.T) {
		got := do(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Set-Cookie", "session=1")
			w.Header().Add("X-Two", "a")
			w.Header().Add("X-Two", "b\xff")
			w.Header().Set("A-Long", strings.Repeat("x", action.MaxResponseHeaderBytes))
			w.WriteHeader(500)
		})
		if _, ok := got.Headers["Set-Cookie"]; ok {
			t.Error("a cookie was kept")
		}
		if _, ok := got.Headers["A-Long"]; ok {
			t.Error("a header beyond the bound was kept")
		}
		if got.Headers["X-Two"] != "a, b\ufffd" {
			t.Errorf("X-Two = %q; want both values", got.Headers["X-Two"])
		}
	})
	t.Run("many headers", func(t *testing.T) {
		got := do(func(w http.ResponseWriter, _ *http.Request) {
			for i := range 200 {
				w.Header().Set(fmt.Sprintf("X-%03d", i), strings.Repeat("v", 100))
			}
		})
		size := 0
		for k, v := range got.Headers {
			size += len(k) + len(v)
		}
		if len(got.Headers) > action.MaxResponseHeaders || size > action.MaxResponseHeaderBytes || len(got.Headers) < 20 {
			t.Errorf("%d headers of %d bytes were kept", len(got.Headers), size)
		}
	})
}

func TestDo_editedHook(t *testing.T) {
	url, got := receiver(t, nil)
	r := newRunner(t, nil)
	h := custom(url, "POST")
	for i, body := range []string{"one {{health}}", "two {{health}}", "{{port}}", "one {{health}}"} {
		h.Config.Body = &body // and Changed stays: a restored table counts again
		if out := r.Do(t.Context(), h, healthEvent, now); out.Verdict != hook.Success {
			t.Fatalf("Do = %+v", out)
		}
		want := strings.NewReplacer("{{health}}", "unhealthy", "{{port}}", "3000").Replace(body)
		if got := (<-got).body; got != want {
			t.Errorf("edit %d sent %q; want %q", i, got, want)
		}
	}
}

func TestDo_concurrently(t *testing.T) {
	url, got := receiver(t, nil)
	go func() {
		for range got { //nolint:revive // drained
		}
	}()
	r := newRunner(t, nil)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			body := fmt.Sprintf("%d {{health}}", i%3)
			for j := range 10 {
				h := custom(url, "POST")
				h.ID = fmt.Sprintf("hook-%d", j%4)
				h.Config.Body = &body
				if out := r.Do(context.Background(), h, healthEvent, now); out.Verdict != hook.Success {
					t.Errorf("Do = %+v", out)
					return
				}
			}
		})
	}
	wg.Wait()
}

type panicking struct{}

func (panicking) Write([]byte) (int, error) { panic("the data: SECRET") }

func TestDo_panicIsAFailure(t *testing.T) {
	var logged bytes.Buffer
	defer slog.SetDefault(slog.Default())
	slog.SetDefault(slog.New(slog.NewJSONHandler(&logged, nil)))
	h := webhook("")
	h.Handler = hook.HandlerLog
	r := newRunner(t, panicking{})
	out := r.Do(t.Context(), h, healthEvent, now)
	if out.Verdict != hook.Retryable || out.Error == "" || strings.Contains(out.Error, "SECRET") {
		t.Errorf("Do = %+v; want retryable", out)
	}
	if s := logged.String(); !strings.Contains(s, "action panicked") || !strings.Contains(s, h.ID) || strings.Contains(s, "SECRET") {
		t.Errorf("logged %s; want the hook and no value", s)
	}
	// The lock is free again: the next one fails the same way instead of waiting for ever.
	if out := r.Do(t.Context(), h, healthEvent, now); out.Verdict != hook.Retryable {
		t.Errorf("the next Do = %+v; want retryable", out)
	}
}

type lines struct{ writes []string }

func (l *lines) Write(b []byte) (int, error) {
	l.writes = append(l.writes, string(b))
	return len(b), nil
}

func TestDo_log(t *testing.T) {
	h := hook.Hook{ID: "h1", Handler: hook.HandlerLog, Changed: 1}
	t.Run("one line of JSON", func(t *testing.T) {
		var w lines
		out := newRunner(t, &w).Do(t.Context(), h, healthEvent, now)
		if out.Verdict != hook.Success || out.Error != "" || out.Response != nil || out.Code != 0 {
			t.Errorf("Do = %+v; want a success", out)
		}
		const want = `{"level":"NOTICE","msg":"event hook","hook_id":"h1","event_id":"0197a1b2-0000-7000-8000-000000000001","source":"balancer","event":"health","time":"2026-11-21T17:59:59.123Z",` +
			`"data":{"upstream_id":"u1","ip":"10.16.0.2","port":3000,"hostname":"web1","health":"unhealthy","big":12345678901234567890,"f":1.50}}` + "\n"
		if diff := cmp.Diff([]string{want}, w.writes); diff != "" {
			t.Errorf("written (-want +got):\n%s", diff)
		}
	})
	t.Run("with a process id", func(t *testing.T) {
		var w lines
		action.New(action.Options{Log: &w, PID: 42}).Do(t.Context(), h, healthEvent, now)
		if len(w.writes) != 1 || !strings.HasSuffix(w.writes[0], `,"pid":42}`+"\n") {
			t.Errorf("written %q; want pid 42 at the end", w.writes)
		}
	})
	for name, text := range map[string]string{
		"plain": strings.Repeat("x", 220<<10), "quotes": strings.Repeat(`\"`, 120<<10), "escapes": strings.Repeat(`\u0001`, 40<<10),
		"characters of several bytes": strings.Repeat("é", 120<<10), "line separators": strings.Repeat("\u2028", 80<<10), "four bytes": "x" + strings.Repeat("😀", 60<<10),
	} {
		t.Run("long data is cut: "+name, func(t *testing.T) {
			var w lines
			ev := healthEvent
			ev.Data = []byte(`{"text":"` + text + `"}`)
			if out := newRunner(t, &w).Do(t.Context(), h, ev, now); out.Verdict != hook.Success {
				t.Fatalf("Do = %+v", out)
			}
			var line struct {
				Data      string
				Truncated bool
			}
			if err := json.Unmarshal([]byte(w.writes[0]), &line); err != nil {
				t.Fatalf("the line is not JSON: %v", err)
			}
			if !line.Truncated || !bytes.HasPrefix(ev.Data, []byte(line.Data)) || strings.Contains(line.Data, "\ufffd") {
				t.Errorf("truncated %v, data begins %.40q", line.Truncated, line.Data)
			}
			if n := len(w.writes[0]); n > action.MaxLogData+1024 || n < action.MaxLogData/2 {
				t.Errorf("the line has %d bytes; want at most %d and a little", n, action.MaxLogData)
			}
		})
	}
	t.Run("data at the bound stays an object", func(t *testing.T) {
		var w lines
		ev := healthEvent
		ev.Data = []byte(`{"text":"` + strings.Repeat("x", action.MaxLogData-11) + `"}`)
		newRunner(t, &w).Do(t.Context(), h, ev, now)
		if !strings.Contains(w.writes[0], `"data":{"text"`) || strings.Contains(w.writes[0], "truncated") {
			t.Errorf("line begins %.200s", w.writes[0])
		}
	})
	t.Run("a writer that fails", func(t *testing.T) {
		out := newRunner(t, failing{}).Do(t.Context(), h, healthEvent, now)
		if out.Verdict != hook.Retryable || out.Error != "write log line: disk full" {
			t.Errorf("Do = %+v; want retryable", out)
		}
	})
	t.Run("data that is no JSON", func(t *testing.T) {
		var w lines
		ev := healthEvent
		ev.Data = []byte(`{"a":`)
		if out := newRunner(t, &w).Do(t.Context(), h, ev, now); out.Verdict != hook.Final || len(w.writes) > 0 {
			t.Errorf("Do = %+v, written %q; want final, nothing written", out, w.writes)
		}
	})
	t.Run("it has no request", func(t *testing.T) {
		if req, err := newRunner(t, nil).Request(h, healthEvent, now); err == nil {
			t.Errorf("Request = %+v; want an error", req)
		}
	})
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestCheck(t *testing.T) {
	str := func(s string) *string { return &s }
	for _, c := range []struct {
		name string
		hook func(*hook.Hook)
		want hook.FieldErrors
	}{
		{"a webhook", func(h *hook.Hook) { h.Handler = hook.HandlerWebhook }, hook.FieldErrors{}},
		{"a log", func(h *hook.Hook) { *h = hook.Hook{Handler: hook.HandlerLog} }, hook.FieldErrors{}},
		{"a handler that is not there", func(h *hook.Hook) { h.Handler = "smtp" }, hook.FieldErrors{"handler": "unknown type: smtp; expected one of: webhook, webhook-custom, log, lambda"}},
		{"a lambda", func(h *hook.Hook) {
			*h = lambda("return function (data, event, source, pid) return true end", "local function f() end return f")
		}, hook.FieldErrors{}},
		{"a lambda without functions is for others to refuse", func(h *hook.Hook) { *h = lambda() }, hook.FieldErrors{}},
		{"every fault of a lambda's functions at once", func(h *hook.Hook) {
			*h = lambda("return 5", "return function() return true end", "return function()\n  tru\nend", "", strings.Repeat(" ", 32<<10+1))
		}, hook.FieldErrors{
			"config.functions.1": "Bad return value from function, expected function type, got number",
			"config.functions.3": "Error parsing function: line 3: syntax error near 'end'",
			"config.functions.4": "Bad return value from function, expected function type, got nil",
			"config.functions.5": "Error parsing function: larger than 32 KB",
		}},
		{"as many functions as there may be", func(h *hook.Hook) { *h = lambda(slices.Repeat([]string{"return f"}, 20)...) }, hook.FieldErrors{}},
		{"too many functions", func(h *hook.Hook) { *h = lambda(slices.Repeat([]string{"return 5"}, 21)...) }, hook.FieldErrors{"config.functions": "length must be at most 20"}},
		{"a method in lower case", func(h *hook.Hook) { h.Config.Method = "post" }, hook.FieldErrors{"config.method": "invalid value: post"}},
		{"a method that is none", func(h *hook.Hook) { h.Config.Method = "PO ST" }, hook.FieldErrors{"config.method": "invalid value: PO ST"}},
		{"a tunnel", func(h *hook.Hook) { h.Config.Method = "CONNECT" }, hook.FieldErrors{"config.method": "invalid value: CONNECT"}},
		{"a method of one's own", func(h *hook.Hook) { h.Config.Method = "PURGE" }, hook.FieldErrors{}},
		{"reserved headers", func(h *hook.Hook) {
			h.Config.Headers = map[string]string{
				"host": "x", "Content-Length": "1", "transfer-encoding": "x", "CONNECTION": "close", "user-agent": "x", "webhook-id": "x", "Webhook-Timestamp": "1",
				"webhook-signature": "x", "x-kong-signature": "x", "traceparent": "x", "upgrade": "h2c", "x-fine": "x", "authorization": "Bearer t",
			}
		}, hook.FieldErrors{
			"config.headers.host": "reserved header", "config.headers.Content-Length": "reserved header", "config.headers.transfer-encoding": "reserved header",
			"config.headers.CONNECTION": "reserved header", "config.headers.user-agent": "reserved header", "config.headers.webhook-id": "reserved header",
			"config.headers.Webhook-Timestamp": "reserved header", "config.headers.webhook-signature": "reserved header",
			"config.headers.x-kong-signature": "reserved header", "config.headers.traceparent": "reserved header", "config.headers.upgrade": "reserved header",
		}},
		{"header names and values", func(h *hook.Hook) {
			h.Config.Headers = map[string]string{"x y": "1", "": "1", "x:": "1", "é": "1", "x-a": "1\r\nx-b: 2", "x-c": "é", "X-D": "1", "x-d": "2"}
		}, hook.FieldErrors{
			"config.headers.x y": "invalid header name",
			"config.headers.":    "invalid header name",
			"config.headers.x:":  "invalid header name",
			"config.headers.é":   "invalid header name",
			"config.headers.x-a": "must not contain control characters",
			"config.headers.x-d": "differs from X-D in case only",
		}},
		{"templates", func(h *hook.Hook) {
			h.Config.HeadersFormat = true
			h.Config.Headers = map[string]string{"x-t": "{{ a"}
			h.Config.Body = str("{% x %}")
			h.Config.Payload = []byte(`{"text":"{{ }}","blocks":[{"text":"{{"}],"fine":"{{x}}"}`)
		}, hook.FieldErrors{
			"config.headers.x-t":           "line 1, column 1: {{: this tag is not closed, }} is missing; write \\{{ if it is text",
			"config.body":                  "line 1, column 1: {% x %}: something is missing at the end of this tag, or nothing may follow it",
			"config.payload.text":          "line 1, column 1: {{ }}: the tag is empty; a tag holds a name such as upstream_id, entity.email or items.0, or an expression of Lua",
			"config.payload.blocks.0.text": "line 1, column 1: {{: this tag is not closed, }} is missing; write \\{{ if it is text",
		}},
		{"no templates where formats are off", func(h *hook.Hook) {
			h.Config.Headers = map[string]string{"x-t": "{{ a"}
			h.Config.Body, h.Config.BodyFormat = str("{% x %}"), false
			h.Config.Payload, h.Config.PayloadFormat = []byte(`{"text":"{{ a + b }}"}`), false
		}, hook.FieldErrors{}},
		{"a JSON body that never is JSON", func(h *hook.Hook) {
			h.Config.Headers = map[string]string{"Content-Type": "application/json"}
			h.Config.Body = str("Upstream {{x}}")
		}, hook.FieldErrors{"config.body": "this is not JSON, whatever the values of its tags: a tag within quotes becomes part of the string, elsewhere it becomes a whole JSON value"}},
		{"the same body as text", func(h *hook.Hook) {
			h.Config.Headers = map[string]string{"Content-Type": "text/plain"}
			h.Config.Body = str("Upstream {{x}}")
		}, hook.FieldErrors{}},
		{"a payload that is no object", func(h *hook.Hook) { h.Config.Payload = []byte(`["a"]`) }, hook.FieldErrors{"config.payload": "expected an object, got an array"}},
		{"too many tags together", func(h *hook.Hook) {
			h.Config.Body = str(strings.Repeat("{{x}}", 200))
			h.Config.Payload = []byte(`{"a":"` + strings.Repeat("{{x}}", 57) + `"}`)
		}, hook.FieldErrors{"@entity": "more than 256 tags in headers, body and payload together"}},
		{"a secret that is no key", func(h *hook.Hook) { h.Config.Secret = hook.NewSecret("whsec_not base64") }, hook.FieldErrors{"config.secret": "what follows whsec_ must be base64"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := custom("http://127.0.0.1", "POST")
			c.hook(&h)
			if diff := cmp.Diff(c.want, action.Check(h)); diff != "" {
				t.Errorf("Check (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNames(t *testing.T) {
	h := custom("http://127.0.0.1", "POST")
	h.Config.HeadersFormat = true
	h.Config.Headers = map[string]string{"x-a": "{{b}}{{a.x}}", "x-b": "plain"}
	body := "{{c}}{{a.y}}"
	h.Config.Body = &body
	h.Config.Payload = []byte(`{"x":"{{d}}","y":["{{ a }}"],"z":"[{{e}}]"}`)
	if diff := cmp.Diff([]string{"a", "b", "c", "d", "e"}, action.Names(h)); diff != "" {
		t.Errorf("Names (-want +got):\n%s", diff)
	}
	if got := action.Names(webhook("http://127.0.0.1")); len(got) != 0 {
		t.Errorf("Names of a webhook = %v; want none", got)
	}
}

// TestSecretsStayInside puts a secret through every path that fails and looks
// for it in what comes out.
func TestSecretsStayInside(t *testing.T) {
	const secret = "PASSWORD"
	url, _ := receiver(t, status(500))
	body, broken := `{"a":"{* health *}"}`, "{{ "+secret
	ev := healthEvent
	ev.Data = []byte(`{"health":"` + secret + `\""}`)
	hooks := map[string]hook.Hook{"answered": webhook(url + "/" + secret), "refused": webhook("http://127.0.0.1:1/" + secret)}
	h := custom(url+"/"+secret, "POST")
	h.Config.Headers = map[string]string{"content-type": "application/json", "authorization": "Bearer " + secret}
	h.Config.Body = &body
	hooks["unrendered"] = h
	h.Config.Body = &broken
	hooks["not compiled"] = h
	for name, h := range hooks {
		h.Config.Secret = hook.NewSecret(secret)
		out := newRunner(t, nil).Do(t.Context(), h, ev, now)
		if out.Verdict == hook.Success || out.Error == "" {
			t.Errorf("%s: Do = %+v; want a failure", name, out)
		}
		if strings.Contains(fmt.Sprintf("%+v", out), secret) {
			t.Errorf("%s: the outcome shows it: %+v", name, out)
		}
	}
}

func TestRunner_keepsABoundedNumberOfPlans(t *testing.T) {
	r := newRunner(t, nil)
	h := webhook("http://127.0.0.1")
	request := func(id string, changed int64) {
		h.ID, h.Changed = id, changed
		if _, err := r.Request(h, healthEvent, now); err != nil {
			t.Fatal(err)
		}
	}
	for i := range action.MaxPlans + 100 {
		request(fmt.Sprint(i), 1)
	}
	if got := r.Plans(); got != action.MaxPlans {
		t.Errorf("%d plans are kept; want %d", got, action.MaxPlans)
	}
	r = newRunner(t, nil)
	request("not stored", 0)
	request("", 1)
	if got := r.Plans(); got != 0 {
		t.Errorf("%d plans of hooks that are not stored are kept; want none", got)
	}
}

// FuzzRequest: the body of a webhook is the event's data with source and event
// over it, whatever the data are.
func FuzzRequest(f *testing.F) {
	f.Add("crud", "admins:create", `{"a":1.50,"source":"x","n":{"event":[1]}}`)
	f.Add("s", "", ` {"sourc\u0065":1,"\u00e9\ud83d\ude00":"\u2028"} `)
	f.Fuzz(func(t *testing.T, source, event, data string) {
		if !utf8.ValidString(source) || !utf8.ValidString(event) {
			return
		}
		ev := hook.Event{ID: "e", Source: source, Event: event, Data: []byte(data)}
		want, err := render.ValuesOf(ev)
		if err != nil {
			return
		}
		req, err := action.New(action.Options{}).Request(webhook("http://127.0.0.1"), ev, now)
		if err != nil {
			t.Fatalf("Request with data %s: %v", data, err)
		}
		got, err := strictjson.Decode(req.Body, strictjson.Limits{})
		if err != nil {
			t.Fatalf("%s gives %s: %v", data, req.Body, err)
		}
		if diff := cmp.Diff(map[string]any(want), got); diff != "" {
			t.Fatalf("%s gives %s (-want +got):\n%s", data, req.Body, diff)
		}
	})
}
