package admin_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/hook"
)

func TestSnoozes(t *testing.T) {
	ctx := context.Background()
	setup := func(t *testing.T) (s *server, path, id string) {
		t.Helper()
		s = newServer(t)
		id = s.must(201, "POST", "/event-hooks", `{"source":"balancer","handler":"log","snooze":60}`)["id"].(string)
		return s, "/event-hooks/" + id + "/snoozes", id
	}
	open := func(s *server, id, key string, seconds int64) {
		s.t.Helper()
		now := s.now().UnixMilli()
		err := s.store.Admit(ctx, hook.Admission{HookID: id, NowMS: now, Snoozes: []hook.SnoozeClaim{{
			Key: key, Snooze: hook.Snooze{UntilMS: now + seconds*1000, By: eventID(0)}, ExpiresAt: now/1000 + 7*24*3600,
		}}})
		if err != nil {
			s.t.Fatal(err)
		}
	}
	shown := func(key string) string { return base64.RawURLEncoding.EncodeToString([]byte(key)) }

	t.Run("windows that are open, with what they dropped", func(t *testing.T) {
		s, path, id := setup(t)
		if got := s.do("GET", path, ""); string(got.body) != `{"data":[],"next":null}` {
			t.Errorf("snoozes of a new hook: %s", got.body)
		}
		open(s, id, "1#balancer/health#b", 60)
		open(s, id, "1#balancer/health#a", 60)
		open(s, id, "1#balancer/health#short", 5)
		open(s, id, "9#balancer/health#other", 60) // of a hook that had this id
		if added, err := s.store.AddSuppressed(ctx, id, "1#balancer/health#a", clock.UnixMilli()+60_000, 7, eventID(3), "snoozed"); err != nil || !added {
			t.Fatal(added, err)
		}
		s.advance(5 * time.Second)
		got := s.do("GET", path, "", "Authorization", "Bearer read-token")
		want := `{"data":[{"key":"` + shown("1#balancer/health#a") + `","source":"balancer","event":"health","event_id":"` + eventID(0) + `","suppressed":7,"until":"2026-11-21T18:01:00.123Z","last_event_id":"` + eventID(3) + `","reason":"snoozed"},` +
			`{"key":"` + shown("1#balancer/health#b") + `","source":"balancer","event":"health","event_id":"` + eventID(0) + `","suppressed":0,"until":"2026-11-21T18:01:00.123Z","last_event_id":null,"reason":null}],"next":null}`
		if string(got.body) != want {
			t.Errorf("snoozes = %s\nwant %s", got.body, want)
		}
	})
	t.Run("in pages", func(t *testing.T) {
		s, path, id := setup(t)
		for i := range 25 {
			open(s, id, fmt.Sprintf("1#balancer/héalth#%02d", i), 60)
		}
		var keys []string
		next, pages := path+"?size=10", 0
		for ; next != ""; pages++ {
			got := s.must(200, "GET", next, "")
			for _, row := range got["data"].([]any) {
				key, _ := base64.RawURLEncoding.DecodeString(row.(map[string]any)["key"].(string))
				keys = append(keys, string(key))
			}
			next, _ = got["next"].(string)
		}
		if pages != 3 || len(keys) != 25 || keys[24] != "1#balancer/héalth#24" {
			t.Errorf("%d windows in %d pages: %v", len(keys), pages, keys)
		}
		for i := 1; i < len(keys); i++ {
			if keys[i] <= keys[i-1] {
				t.Errorf("%s comes after %s", keys[i], keys[i-1])
			}
		}
	})
	t.Run("an offset of another list, or of a hook that had this id, is none of ours", func(t *testing.T) {
		s, path, id := setup(t)
		offset := func(raw string) string { return base64.RawURLEncoding.EncodeToString([]byte(raw)) }
		for _, raw := range []string{`["` + id + `"]`, `["9#balancer/health#x"]`, `["1#x"]`, `["1#a/b#c","d"]`, `"1#a/b#c"`, `[]`, `[""]`, `nonsense`, `["1#a/b#` + strings.Repeat("c", 4000) + `"]`, "[\"1#a/b#\xff\"]\x00"} {
			if got := s.must(400, "GET", path+"?offset="+offset(raw), ""); got["code"] != 7.0 || len(fmt.Sprint(got["message"])) > 200 {
				t.Errorf("offset %.30s: %.300v", raw, got)
			}
		}
		s.must(200, "GET", path+"?offset="+offset(`["1#balancer/health#x"]`), "")
		s.must(400, "GET", path+"?size=0", "")
		s.must(404, "GET", "/event-hooks/00000000-0000-4000-8000-000000000000/snoozes", "")
		s.must(400, "GET", "/event-hooks/nonsense/snoozes", "")
	})
	t.Run("one is ended, and then there is none", func(t *testing.T) {
		s, path, id := setup(t)
		open(s, id, "1#balancer/health#a", 60)
		open(s, id, "1#balancer/health#b", 60)
		s.must(403, "DELETE", path+"/"+shown("1#balancer/health#a"), "", "Authorization", "Bearer read-token")
		s.must(204, "DELETE", path+"/"+shown("1#balancer/health#a"), "")
		s.must(404, "DELETE", path+"/"+shown("1#balancer/health#a"), "")
		if got := s.must(200, "GET", path, "")["data"].([]any); len(got) != 1 {
			t.Errorf("%d windows are open; want the other one", len(got))
		}
		// Deliver, which may remember it, is told that it is not open any more.
		if added, err := s.store.AddSuppressed(ctx, id, "1#balancer/health#a", clock.UnixMilli()+60_000, 1, eventID(1), "snoozed"); err != nil || added {
			t.Errorf("AddSuppressed to an ended window = %t, %v; want false", added, err)
		}
	})
	t.Run("what is not open, or not this hook's, is not found", func(t *testing.T) {
		s, path, id := setup(t)
		open(s, id, "1#balancer/health#short", 5)
		open(s, id, "9#balancer/health#other", 60)
		s.advance(5 * time.Second)
		for _, key := range []string{"1#balancer/health#short", "9#balancer/health#other", "1#balancer/health#never", "10#balancer/health#never"} {
			s.must(404, "DELETE", path+"/"+shown(key), "")
		}
		s.must(404, "DELETE", "/event-hooks/00000000-0000-4000-8000-000000000000/snoozes/"+shown("1#a/b#c"), "")
		if open, _, err := s.store.OpenSnoozes(ctx, id, "9#", "", 10, s.now().UnixMilli()); err != nil || len(open) != 1 {
			t.Errorf("the window of the hook before is %v, %v; want it open", open, err)
		}
	})
	t.Run("a key that no list shows is refused", func(t *testing.T) {
		s, path, _ := setup(t)
		for _, key := range []string{
			"x", "%20", "MSNhL2IjYw==", "MSNhL2IjYx", url.PathEscape("1#a/b#c"), shown("1#x"), shown("#a/b#c"), shown("x#a/b#c"), shown("1#/b#c"), shown("1#a/#c"), shown("1#ab#c"),
			shown("1#a/b#\x00"), shown("1#a/\xff#c"), shown("1#a/b#" + strings.Repeat("x", 1100)), "%0A" + shown("1#a/b#c"),
		} {
			got := s.must(400, "DELETE", path+"/"+key, "")
			if diff := cmp.Diff(map[string]any{"key": "expected a key as the list of snoozes shows it"}, got["fields"]); diff != "" || got["code"] != 1.0 {
				t.Errorf("key %s: %v", key, got)
			}
		}
		s.must(405, "GET", path+"/"+shown("1#a/b#c"), "")
	})
}
