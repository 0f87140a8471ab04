package ingest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"eventhooks/internal/eventid"
	"eventhooks/internal/hook"
	"eventhooks/internal/ingest"
	"eventhooks/internal/message"
	"eventhooks/internal/strictjson"
)

// FuzzService posts whatever comes. It is never a failure of ours, and what was
// answered with 202 is on the queue whole, in a form that can be read back.
func FuzzService(f *testing.F) {
	for _, path := range []string{"/events", "/events/balancer/health", "/events/dao%3Acrud/create", "/events/a%2fb/%ff"} {
		for _, body := range []string{
			health, "[" + health + "," + health + "]", `{}`, `[]`, `[1]`, `{"source":"crud","event":"admins","a":1,"b":[{}]}`,
			`{"source":"balancer","event":"health","data":{"a":1.0},"time":"2026-11-21T18:00:00.5+01:00","workspace":"w","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}`,
			`[{"source":"kong:event_hooks","event":"ping"}]`, `{"source":"balancer","event":"health","data":{"a":"` + "\uffff" + `\ufffe"}}`,
		} {
			f.Add(path, "application/json", "", []byte(body), true)
			f.Add(path, "", "key", []byte(body), false)
		}
	}
	f.Fuzz(func(t *testing.T, path, kind, key string, body []byte, unknown bool) {
		r, err := http.NewRequest(http.MethodPost, path, bytes.NewReader(body))
		if err != nil || !strings.HasPrefix(path, "/") {
			return
		}
		r.Header = http.Header{"Authorization": {"Bearer ingest"}}
		if kind != "" {
			r.Header.Set("Content-Type", kind)
		}
		if key != "" {
			r.Header.Set("Idempotency-Key", key)
		}
		b := newBench(t, func(o *ingest.Options) { o.AcceptUnknown = unknown })
		w := httptest.NewRecorder()
		b.svc.ServeHTTP(w, r)
		if !json.Valid(w.Body.Bytes()) || !utf8.Valid(w.Body.Bytes()) {
			t.Fatalf("answer is no JSON: %q", w.Body)
		}
		if !slices.Contains([]int{202, 400, 403, 404, 413, 415}, w.Code) {
			t.Fatalf("POST %q %q = %d %s", path, body, w.Code, w.Body)
		}
		if w.Code != 202 {
			if b.queue.sends > 0 || len(b.store.claims) > 0 {
				t.Fatalf("%d, and something was done", w.Code)
			}
			return
		}
		var a struct{ Events []struct{ ID string } }
		if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
			t.Fatal(err)
		}
		ids := map[string]bool{}
		for _, e := range a.Events {
			if !eventid.Valid(e.ID) || ids[e.ID] {
				t.Fatalf("id %s is none, or there twice", e.ID)
			}
			ids[e.ID] = true
		}
		for _, m := range b.queue.sent {
			msg, err := message.Decode(m.Body)
			if err != nil || len(m.Body) > hook.MaxMessageBytes {
				t.Fatalf("Decode(%q) = %v", m.Body, err)
			}
			for _, ev := range msg.Events {
				if !ids[ev.ID] || ev.Source == "" || ev.Event == "" || ev.Source == hook.SystemSource || strictjson.Kind(ev.Data) != '{' {
					t.Fatalf("event %+v of %q", ev, body)
				}
				// Whoever delivers it reads it under the limits of old.
				if err := strictjson.Check(ev.Data, strictjson.Limits{}); err != nil {
					t.Fatalf("data %q: %v", ev.Data, err)
				}
				delete(ids, ev.ID)
			}
		}
		if len(ids) > 0 && !bytes.Contains(body, []byte("ping")) && !strings.Contains(path, "ping") && !bytes.Contains(body, []byte(`\u`)) && !strings.Contains(path, "%") {
			t.Fatalf("%d of %d events are not on the queue", len(ids), len(a.Events))
		}
	})
}

// taker takes every message and keeps none.
type taker struct{}

func (taker) Send(context.Context, []hook.Message) ([]int, error) { return nil, nil }

func BenchmarkService(b *testing.B) {
	one := `{"source":"balancer","event":"health","data":{"upstream_id":"3d2aaac6-0400-401d-aac0-3f6a1bd3b6b7","ip":"10.16.0.2","port":3000,"hostname":"web1.example.test","health":"unhealthy","note":"` +
		strings.Repeat("all is not well; ", 50) + `"}}`
	for _, bb := range []struct {
		name, path, body string
	}{
		{"one event of 1 KB", "/events", one},
		{"25 events of 1 KB", "/events", "[" + strings.Repeat(one+",", 24) + one + "]"},
		{"one entry of 1 KB", "/events/balancer/health", one},
	} {
		b.Run(bb.name, func(b *testing.B) {
			svc := newBench(b, func(o *ingest.Options) { o.Queue = taker{} }).svc
			header := http.Header{"Authorization": {"Bearer ingest"}, "Content-Type": {"application/json; charset=utf-8"}}
			b.ReportAllocs()
			b.SetBytes(int64(len(bb.body)))
			for b.Loop() {
				r, _ := http.NewRequest(http.MethodPost, bb.path, strings.NewReader(bb.body))
				r.Header = header
				w := httptest.NewRecorder()
				svc.ServeHTTP(w, r)
				if w.Code != 202 {
					b.Fatal(w.Body)
				}
			}
		})
	}
}
