package admin_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/admin"
	"eventhooks/internal/hook"
	"eventhooks/internal/record"
)

// hooks stores n log hooks of ids that end in 0 to n-1, with their source and
// event.
func (s *server) hooks(n int, binding func(i int) (source, event string)) (ids []string) {
	s.t.Helper()
	var changes []hook.Change
	for i := range n {
		source, event := binding(i)
		id := fmt.Sprintf("00000000-0000-4000-8000-%012d", i)
		r, err := record.Hook(hook.Hook{ID: id, Source: source, Event: event, Handler: hook.HandlerLog, Enabled: true})
		if err != nil {
			s.t.Fatal(err)
		}
		ids = append(ids, id)
		if changes = append(changes, hook.Change{Record: r, Expect: hook.ExpectAny}); len(changes) == 80 || i == n-1 {
			if _, err := s.store.Write(context.Background(), hook.FeedHooks, changes, nil, clock.UnixMilli()); err != nil {
				s.t.Fatal(err)
			}
			changes = changes[:0]
		}
	}
	return ids
}

func TestEventDeliveries(t *testing.T) {
	hookIDs := func(got map[string]any) (ids []string) {
		for _, row := range got["data"].([]any) {
			id := row.(map[string]any)["hook_id"].(string)
			ids = append(ids, strings.TrimLeft(id[24:], "0"))
		}
		return ids
	}
	path := "/events/" + eventID(0) + "/deliveries"

	t.Run("over the hooks that are there, in the order of their ids", func(t *testing.T) {
		s := newServer(t)
		ids := s.hooks(9, func(i int) (string, string) {
			return []string{"crud", "crud", "balancer"}[i%3], []string{"consumers", "", "health"}[i%3]
		})
		for _, i := range []int{8, 1, 3, 6} {
			s.row(ids[i], 0, nil)
		}
		s.row(ids[1], 1, nil) // another event
		for query, want := range map[string][]string{
			"": {"1", "3", "6", "8"}, "?size=3": {"1", "3", "6"}, "?source=crud": {"1", "3", "6"}, "?source=balancer": {"8"},
			"?source=crud&event=routes": {"1"}, "?source=crud&event=consumers": {"1", "3", "6"}, "?event=health": {"1", "8"}, "?source=none": nil, "?source=": nil,
			"?source=kong:event_hooks&event=ping": {"1", "3", "6", "8"},
		} {
			if diff := cmp.Diff(want, hookIDs(s.must(200, "GET", path+query, "", "Authorization", "Bearer read-token"))); diff != "" {
				t.Errorf("deliveries%s (-want +got):\n%s", query, diff)
			}
		}
		page := s.must(200, "GET", path+"?size=3&source=crud", "")
		if next, _ := page["next"].(string); !strings.HasPrefix(next, path+"?offset=") || !strings.HasSuffix(next, "&source=crud&size=3") {
			t.Errorf("next = %v", page["next"])
		}
		if got := hookIDs(s.must(200, "GET", strings.Replace(page["next"].(string), "&source=crud", "", 1), "")); len(got) != 1 || got[0] != "8" {
			t.Errorf("the next page of all = %v; want 8", got)
		}
		if got := s.must(200, "GET", "/events/"+strings.ToUpper(eventID(0))+"/deliveries", ""); len(hookIDs(got)) != 4 {
			t.Errorf("in upper case: %v", hookIDs(got))
		}
		s.must(204, "DELETE", "/event-hooks/"+ids[3], "")
		if diff := cmp.Diff([]string{"1", "6", "8"}, hookIDs(s.must(200, "GET", path, ""))); diff != "" {
			t.Errorf("after a hook was deleted (-want +got):\n%s", diff)
		}
	})
	t.Run("a page looks at no more than 1,000 hooks, and may be empty", func(t *testing.T) {
		var counting *failingStore
		s := newServerOn(t, func(real admin.Store) admin.Store {
			counting = &failingStore{Store: real}
			return counting
		})
		ids := s.hooks(2500, func(int) (string, string) { return "crud", "" })
		s.row(ids[2400], 0, nil)
		var pages []int
		next := path
		for next != "" {
			counting.reset()
			got := s.must(200, "GET", next, "")
			pages = append(pages, len(got["data"].([]any)))
			if counting.listed > 1000 || counting.rows > 1000 {
				t.Errorf("a page read %d hooks and %d rows", counting.listed, counting.rows)
			}
			next, _ = got["next"].(string)
		}
		if diff := cmp.Diff([]int{0, 0, 1}, pages); diff != "" {
			t.Errorf("rows of the pages (-want +got):\n%s", diff)
		}
	})
	t.Run("an event that nobody has heard of is an empty list", func(t *testing.T) {
		s := newServer(t)
		s.hooks(3, func(int) (string, string) { return "crud", "" })
		if got := s.do("GET", path, ""); string(got.body) != `{"data":[],"next":null}` {
			t.Errorf("%s", got.body)
		}
	})
	t.Run("what is no id is refused, and posts of an event called deliveries are ingest's", func(t *testing.T) {
		s := newServer(t)
		if got := s.must(400, "GET", "/events/crud/deliveries", ""); got["code"] != 1.0 {
			t.Errorf("answer %v; want code 1", got)
		}
		s.must(400, "GET", path+"?offset=WyJ4Il0", "")
		s.must(400, "GET", path+"?size=many", "")
		r, err := http.NewRequest("POST", "/events/crud/deliveries", nil) // not held to the contract, which is ingest's there
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer admin-token")
		w := newRecorder()
		if s.svc.ServeHTTP(w, r); w.status != 404 {
			t.Errorf("POST = %d; want 404", w.status)
		}
		if got := s.do("PUT", "/events/crud/deliveries", `{}`); got.status != 405 || got.header.Get("Allow") != "GET, POST" {
			t.Errorf("PUT = %d, Allow %q; want 405 with GET, POST", got.status, got.header.Get("Allow"))
		}
		if got := s.do("GET", "/events/crud/consumers", ""); got.status != 405 || got.header.Get("Allow") != "POST" {
			t.Errorf("GET of another event = %d, Allow %q; want 405 with POST", got.status, got.header.Get("Allow"))
		}
		s.must(404, "GET", path+"/more", "")
	})
}
