package admin_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/admin"
)

// scales are numbers of hooks: of a small deployment, and of a large one.
var scales = []int{100, 10_000}

// oneSource binds all hooks alike, as the largest deployments do.
func oneSource(int) (source, event string) { return "crud", "consumers" }

// TestHooks_costTheSame: what one request about hooks asks of the store does
// not depend on how many hooks there are.
func TestHooks_costTheSame(t *testing.T) {
	type cost struct{ Calls, Listed, Rows, Writes int }
	costs := map[string]map[int]cost{}
	const id = "00000000-0000-4000-8000-000000000050"
	for _, n := range scales {
		var counting *failingStore
		s := newServerOn(t, func(real admin.Store) admin.Store {
			counting = &failingStore{Store: real}
			return counting
		})
		s.hooks(n, oneSource)
		s.row(id, 0, nil)
		for _, request := range []struct{ name, method, path, body string }{
			{"a page of the list", "GET", "/event-hooks?size=50", ""},
			{"the next page", "GET", "/event-hooks?size=50&offset=" + offsetOf("00000000-0000-4000-8000-000000000048"), ""},
			{"a filtered page", "GET", "/event-hooks?size=50&source=crud", ""},
			{"a read", "GET", "/event-hooks/" + id, ""},
			{"a create", "POST", "/event-hooks", slackHook},
			{"an update", "PATCH", "/event-hooks/" + id, `{"handler":"webhook","config":{"url":"http://ok.test/","secret":"x"},"snooze":5}`},
			{"a replacement", "PUT", "/event-hooks/" + id, slackHook},
			{"a rotation", "POST", "/event-hooks/" + id + "/secret/rotate", ""},
			{"a rendering", "POST", "/event-hooks/render", `{"hook":{"source":"crud","handler":"log"}}`},
			{"deliveries", "GET", "/event-hooks/" + id + "/deliveries", ""},
			{"a redelivery", "POST", "/event-hooks/" + id + "/deliveries/" + eventID(0) + "/redeliver", ""},
			{"a redelivery of many", "POST", "/event-hooks/" + id + "/redeliver", ""},
			{"snoozes", "GET", "/event-hooks/" + id + "/snoozes", ""},
			{"a deletion", "DELETE", "/event-hooks/" + id, ""},
		} {
			counting.reset()
			if got := s.do(request.method, request.path, request.body); got.status >= 300 {
				t.Fatalf("%s = %d %s", request.name, got.status, got.body)
			}
			if costs[request.name] == nil {
				costs[request.name] = map[int]cost{}
			}
			costs[request.name][n] = cost{counting.calls, counting.listed, counting.rows, counting.writes}
		}
	}
	for name, by := range costs {
		few, many := by[scales[0]], by[scales[1]]
		// A filter looks a little ahead, as far as there is something.
		if name == "a filtered page" {
			if many.Listed > 500 {
				t.Errorf("%s of %d reads %d hooks; want at most 500", name, scales[1], many.Listed)
			}
			continue
		}
		if diff := cmp.Diff(few, many); diff != "" {
			t.Errorf("%s costs otherwise with %d hooks than with %d (-few +many):\n%s", name, scales[1], scales[0], diff)
		}
		if many.Calls == 0 {
			t.Errorf("%s asked nothing of the store: it was not counted", name)
		}
	}
}

// serve makes one request without holding its answer to the contract.
func (s *server) serve(b *testing.B, method, path, body string, want int) {
	b.Helper()
	r, err := http.NewRequest(method, path, strings.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer admin-token")
	r.Header.Set("Content-Type", "application/json")
	w := newRecorder()
	if s.svc.ServeHTTP(w, r); w.status != want {
		b.Fatalf("%s %s = %d; want %d", method, path, w.status, want)
	}
}

func benchmarkHooks(b *testing.B, do func(b *testing.B, s *server, i int)) {
	for _, n := range scales {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := newServer(b)
			s.hooks(n, oneSource)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				do(b, s, i)
			}
		})
	}
}

// A page of 100 hooks.
func BenchmarkHooks_list(b *testing.B) {
	benchmarkHooks(b, func(b *testing.B, s *server, _ int) { s.serve(b, "GET", "/event-hooks", "", 200) })
}

// A hook made; it is deleted again, which is not counted.
func BenchmarkHooks_create(b *testing.B) {
	benchmarkHooks(b, func(b *testing.B, s *server, i int) {
		id := fmt.Sprintf("10000000-0000-4000-8000-%012d", i)
		s.serve(b, "POST", "/event-hooks", `{"id":"`+id+`","source":"crud","event":"consumers","handler":"webhook-custom","config":{"url":"http://ok.test/","method":"POST"}}`, 201)
		b.StopTimer()
		s.serve(b, "DELETE", "/event-hooks/"+id, "", 204)
		b.StartTimer()
	})
}

// A hook changed.
func BenchmarkHooks_update(b *testing.B) {
	benchmarkHooks(b, func(b *testing.B, s *server, i int) {
		s.serve(b, "PATCH", "/event-hooks/00000000-0000-4000-8000-000000000050", fmt.Sprintf(`{"snooze":%d}`, i%1000), 200)
	})
}
