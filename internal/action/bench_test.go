package action_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"eventhooks/internal/hook"
)

// oneKB is an event of about 1 KB.
func oneKB() hook.Event {
	ev := healthEvent
	ev.Data = fmt.Appendf(nil, `{"upstream_id":"u1","port":3000,"hostname":"web1","health":"unhealthy","entity":{"id":"ea87c99f","tags":["a","b"],"note":"%s"}}`, strings.Repeat("lorem ipsum ", 70))
	return ev
}

func benchReceiver(b *testing.B) string {
	b.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	b.Cleanup(s.Close)
	return s.URL
}

// BenchmarkBarePost is the floor: a POST of the same size by net/http alone.
// The receiver's work is in every figure.
func BenchmarkBarePost(b *testing.B) {
	url, body := benchReceiver(b), oneKB().Data
	b.ReportAllocs()
	for b.Loop() {
		resp, err := http.Post(url, "application/json", bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
}

func benchDo(b *testing.B, h hook.Hook) {
	b.Helper()
	r, ev := newRunner(b, io.Discard), oneKB()
	b.ReportAllocs()
	for b.Loop() {
		if out := r.Do(context.Background(), h, ev, now); out.Verdict != hook.Success {
			b.Fatalf("Do = %+v", out)
		}
	}
}

// BenchmarkDo_webhook is one signed delivery.
func BenchmarkDo_webhook(b *testing.B) { benchDo(b, webhook(benchReceiver(b))) }

func BenchmarkDo_custom(b *testing.B) {
	h := custom(benchReceiver(b), "POST")
	h.Config.Headers = map[string]string{"content-type": "application/json"}
	h.Config.Payload = []byte(`{"text":"Upstream {{upstream_id}} is {{health}}","blocks":[{"type":"section","text":"{{hostname}}:{{port}} {{entity.note}}"}]}`)
	benchDo(b, h)
}

func BenchmarkDo_log(b *testing.B) {
	benchDo(b, hook.Hook{ID: "h", Handler: hook.HandlerLog, Changed: 1})
}

// BenchmarkRequest is what we add to a POST: the signed request without its
// sending.
func BenchmarkRequest(b *testing.B) {
	r, ev, h := newRunner(b, nil), oneKB(), webhook("http://127.0.0.1")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Request(h, ev, now); err != nil {
			b.Fatal(err)
		}
	}
}
