package admin_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"eventhooks/internal/admin"
	"eventhooks/internal/hook"
	"eventhooks/internal/sign"
)

func TestRotate(t *testing.T) {
	const grace = 24 * time.Hour
	setup := func(t *testing.T) (s *server, path string) {
		t.Helper()
		s = newServer(t)
		return s, "/event-hooks/" + s.must(201, "POST", "/event-hooks", slackHook)["id"].(string)
	}
	config := func(s *server, path string) hook.Config {
		return s.hookOf(strings.TrimPrefix(path, "/event-hooks/")).Config
	}
	until := func(s *server, path string) any {
		return s.must(200, "GET", path, "")["config"].(map[string]any)["old_secret_until"]
	}

	t.Run("the new secret is shown once, and the old one has a day", func(t *testing.T) {
		s, path := setup(t)
		got := s.do("POST", path+"/secret/rotate", "")
		secret, _ := got.json(t)["secret"].(string)
		if got.status != 200 || got.json(t)["old_secret_until"] != float64(clock.Add(grace).Unix()) || got.header.Get("ETag") != `"2"` {
			t.Errorf("answer %d, ETag %s: %s", got.status, got.header.Get("ETag"), got.body)
		}
		if fault := sign.CheckSecret(hook.NewSecret(secret)); fault != "" || !strings.HasPrefix(secret, "whsec_") || len(secret) != len("whsec_")+44 {
			t.Errorf("secret %q: %s; want whsec_ and the base64 of 32 bytes", secret, fault)
		}
		if c := config(s, path); c.Secret.Reveal() != secret || c.OldSecret.Reveal() != "sesame" || c.OldSecretUntil != clock.Add(grace).Unix() {
			t.Errorf("stored %q, before %q until %d", c.Secret.Reveal(), c.OldSecret.Reveal(), c.OldSecretUntil)
		}
		for _, where := range []reply{s.do("GET", path, ""), s.do("GET", "/event-hooks", ""), s.do("GET", path+"/ping", "")} {
			if body := string(where.body); strings.Contains(body, secret) || strings.Contains(body, "sesame") || !strings.Contains(body, `"secret":"[redacted]"`) {
				t.Errorf("an answer shows the secret: %s", body)
			}
		}
		if log := s.log.String(); strings.Contains(log, secret) || strings.Contains(log, "sesame") {
			t.Errorf("the log shows a secret: %s", log)
		}
	})
	t.Run("two secrets are two secrets", func(t *testing.T) {
		s, path := setup(t)
		first := s.must(200, "POST", path+"/secret/rotate", "")["secret"]
		s.must(200, "POST", path+"/secret/rotate", `{"finish":true}`)
		if second := s.must(200, "POST", path+"/secret/rotate", "")["secret"]; first == second {
			t.Errorf("the same secret twice: %v", first)
		}
	})
	t.Run("without a secret before there is no grace", func(t *testing.T) {
		s, path := setup(t)
		s.must(200, "PATCH", path, `{"config":{"secret":null}}`)
		if got := s.must(200, "POST", path+"/secret/rotate", `{"finish":false}`); got["old_secret_until"] != nil || got["secret"] == nil {
			t.Errorf("answer %v; want a secret and no grace", got)
		}
		if c := config(s, path); !c.OldSecret.IsZero() || c.OldSecretUntil != 0 {
			t.Errorf("stored an old secret until %d", c.OldSecretUntil)
		}
		s.must(200, "POST", path+"/secret/rotate", "")
	})
	t.Run("finish ends the grace, and does no harm without one", func(t *testing.T) {
		s, path := setup(t)
		tag := s.do("GET", path, "").header.Get("ETag")
		for range 2 {
			got := s.do("POST", path+"/secret/rotate", `{"finish":true}`)
			if body := got.json(t); got.status != 200 || body["secret"] != nil || body["old_secret_until"] != nil || got.header.Get("ETag") != tag {
				t.Errorf("finish without a rotation = %d %s, ETag %s; want the hook untouched", got.status, got.body, got.header.Get("ETag"))
			}
		}
		secret := s.must(200, "POST", path+"/secret/rotate", "")["secret"]
		s.must(200, "POST", path+"/secret/rotate", `{"finish":true}`)
		if c := config(s, path); c.Secret.Reveal() != secret || !c.OldSecret.IsZero() || c.OldSecretUntil != 0 {
			t.Errorf("after finish: %+v; want the new secret alone", c)
		}
		if until(s, path) != nil {
			t.Error("old_secret_until is shown after finish")
		}
	})
	t.Run("a grace that is over is not shown, and the next write drops the old secret", func(t *testing.T) {
		s, path := setup(t)
		s.must(200, "POST", path+"/secret/rotate", "")
		s.advance(grace - time.Second)
		if until(s, path) == nil {
			t.Error("old_secret_until is not shown while the grace lasts")
		}
		s.must(200, "PATCH", path, `{"name":"kept"}`)
		if config(s, path).OldSecret.IsZero() {
			t.Error("a write that has nothing to do with it ended the grace")
		}
		s.advance(time.Second)
		if until(s, path) != nil {
			t.Error("old_secret_until is shown after the grace")
		}
		for _, row := range s.must(200, "GET", "/event-hooks", "")["data"].([]any) {
			if got := row.(map[string]any)["config"].(map[string]any)["old_secret_until"]; got != nil {
				t.Errorf("the list shows old_secret_until %v", got)
			}
		}
		if config(s, path).OldSecret.IsZero() {
			t.Error("the old secret is gone before any write")
		}
		s.must(200, "PATCH", path, `{"name":"gone"}`)
		if c := config(s, path); !c.OldSecret.IsZero() || c.OldSecretUntil != 0 || c.Secret.IsZero() {
			t.Errorf("after a write: %+v; want no old secret", c)
		}
	})
	t.Run("a grace that is over does not stop another rotation", func(t *testing.T) {
		s, path := setup(t)
		first := s.must(200, "POST", path+"/secret/rotate", "")["secret"]
		s.advance(grace)
		s.must(200, "POST", path+"/secret/rotate", "")
		if c := config(s, path); c.OldSecret.Reveal() != first {
			t.Errorf("the secret before is %q; want that of the last rotation", c.OldSecret.Reveal())
		}
	})
	t.Run("an answer that is lost costs nothing: what the receiver knows goes on signing, and a chosen secret mends it", func(t *testing.T) {
		s, path := setup(t)
		tag := s.do("GET", path, "").header.Get("ETag")
		s.must(200, "POST", path+"/secret/rotate", "", "If-Match", tag) // nobody reads it
		before := config(s, path)
		// The same request again, and one without a condition.
		s.must(412, "POST", path+"/secret/rotate", "", "If-Match", tag)
		got := s.must(409, "POST", path+"/secret/rotate", "")
		if want := "the last rotation's grace lasts until 2026-11-22T18:00:00Z: finish it first; if its answer was lost, give the receiver a secret of your own choice and write that to config.secret instead"; got["message"] != want {
			t.Errorf("message = %v\nwant %s", got["message"], want)
		}
		if after := config(s, path); after.Secret != before.Secret || after.OldSecret.Reveal() != "sesame" || after.OldSecretUntil != before.OldSecretUntil {
			t.Errorf("a repeat changed the secrets: %+v", after)
		}
		s.must(200, "PATCH", path, `{"config":{"secret":"chosen"}}`)
		if c := config(s, path); c.Secret.Reveal() != "chosen" || !c.OldSecret.IsZero() {
			t.Errorf("after a chosen secret was written: %+v", c)
		}
	})
	t.Run("handlers without a secret", func(t *testing.T) {
		s, path := setup(t)
		s.must(200, "PUT", path, `{"source":"crud","handler":"log"}`)
		for _, body := range []string{"", `{"finish":true}`} {
			if got := s.must(400, "POST", path+"/secret/rotate", body); got["message"] != "a log hook has no secret" {
				t.Errorf("message = %v", got["message"])
			}
		}
	})
}

// writes stands between the service and its store: it does something right
// before a write, and may lose its answer.
type writes struct {
	admin.Store
	mu     sync.Mutex
	before func()
	lose   bool // the next answer
}

func (w *writes) Write(ctx context.Context, feed hook.Feed, changes []hook.Change, rows []hook.Delivery, now int64) (int64, error) {
	w.mu.Lock()
	before, lose := w.before, w.lose
	w.before, w.lose = nil, false
	w.mu.Unlock()
	if before != nil {
		before()
	}
	epoch, err := w.Store.Write(ctx, feed, changes, rows, now)
	if lose && err == nil {
		return 0, errors.New("connection reset after the request was sent")
	}
	return epoch, err
}

// written returns a server whose writes are watched, and a hook's path.
func written(t *testing.T) (s *server, w *writes, path string) {
	t.Helper()
	w = &writes{}
	s = newServerOn(t, func(real admin.Store) admin.Store {
		w.Store = real
		return w
	})
	return s, w, "/event-hooks/" + s.must(201, "POST", "/event-hooks", slackHook)["id"].(string)
}

func TestRotate_races(t *testing.T) {
	t.Run("of many at once one rotates", func(t *testing.T) {
		s, _, path := written(t)
		got := atOnce(8, func(int) int { return s.do("POST", path+"/secret/rotate", "").status })
		if got[200] != 1 || got[409] != 7 {
			t.Errorf("answers %v; want one 200 and seven 409", got)
		}
	})
	t.Run("with a version it is 412, without one it is made on what another left", func(t *testing.T) {
		s, w, path := written(t)
		tag := s.do("GET", path, "").header.Get("ETag")
		w.before = func() { s.must(200, "PATCH", path, `{"name":"x"}`) }
		s.must(412, "POST", path+"/secret/rotate", "", "If-Match", tag)
		w.before = func() { s.must(200, "PATCH", path, `{"config":{"secret":"newer"}}`) }
		s.must(200, "POST", path+"/secret/rotate", "")
		h := s.hookOf(strings.TrimPrefix(path, "/event-hooks/"))
		if h.Name != "x" || h.Config.OldSecret.Reveal() != "newer" {
			t.Errorf("stored name %q, old secret %q; want x, newer", h.Name, h.Config.OldSecret.Reveal())
		}
	})
	t.Run("a write whose answer the store loses is not made twice", func(t *testing.T) {
		s, w, path := written(t)
		w.lose = true
		s.must(500, "POST", path+"/secret/rotate", "")
		s.must(409, "POST", path+"/secret/rotate", "")
		if c := s.hookOf(strings.TrimPrefix(path, "/event-hooks/")).Config; c.OldSecret.Reveal() != "sesame" {
			t.Errorf("old secret %q; want sesame, which the receiver knows", c.OldSecret.Reveal())
		}
	})
	t.Run("a hook that becomes a log meanwhile has no secret", func(t *testing.T) {
		s, w, path := written(t)
		w.before = func() { s.must(200, "PUT", path, `{"source":"crud","handler":"log"}`) }
		s.must(400, "POST", path+"/secret/rotate", "")
	})
	t.Run("a hook that is deleted meanwhile is not there", func(t *testing.T) {
		s, w, path := written(t)
		w.before = func() { s.must(204, "DELETE", path, "") }
		s.must(404, "POST", path+"/secret/rotate", "")
	})
}

// TestHook_twoWriters: changes of one hook that meet.
func TestHook_twoWriters(t *testing.T) {
	t.Run("with a version one is made and the other told", func(t *testing.T) {
		for range 10 {
			s, _, path := written(t)
			tag := s.do("GET", path, "").header.Get("ETag")
			got := atOnce(2, func(i int) int {
				return s.do([]string{"PATCH", "PUT"}[i], path, strings.Replace(slackHook, "{", fmt.Sprintf(`{"name":"%d",`, i), 1), "If-Match", tag).status
			})
			if got[200] != 1 || got[412] != 1 {
				t.Fatalf("answers %v; want one 200 and one 412", got)
			}
		}
	})
	t.Run("a PUT creates anew what was deleted meanwhile, unless it names a version", func(t *testing.T) {
		s, w, path := written(t)
		w.before = func() { s.must(204, "DELETE", path, "") }
		s.must(200, "PUT", path, slackHook)
		tag := s.do("GET", path, "").header.Get("ETag")
		w.before = func() { s.must(204, "DELETE", path, "") }
		s.must(412, "PUT", path, slackHook, "If-Match", tag)
		s.must(404, "GET", path, "")
	})
	t.Run("a change that gets in between is told, not overwritten", func(t *testing.T) {
		s, w, path := written(t)
		tag := s.do("GET", path, "").header.Get("ETag")
		w.before = func() { s.must(200, "PATCH", path, `{"name":"theirs"}`) }
		s.must(412, "PATCH", path, `{"name":"mine"}`, "If-Match", tag)
		if got := s.must(200, "GET", path, ""); got["name"] != "theirs" {
			t.Errorf("name %v; want theirs", got["name"])
		}
	})
	t.Run("without a version changes of different fields both stay", func(t *testing.T) {
		s, w, path := written(t)
		w.before = func() {
			s.must(200, "PATCH", path, `{"snooze":5,"config":{"timeout":3,"headers":{"X-A":"b"}},"filter":{"a":["b"]}}`)
		}
		s.must(200, "PATCH", path, `{"name":"mine","config":{"url":"https://ok.test/y"}}`)
		got := s.must(200, "GET", path, "")
		config := got["config"].(map[string]any)
		if got["snooze"] != 5.0 || got["name"] != "mine" || got["filter"] == nil || config["timeout"] != 3.0 || config["url"] != "https://ok.test/y" || config["secret"] != hook.Redacted {
			t.Errorf("hook %v; want both changes", got)
		}
		atOnce(2, func(i int) int {
			return s.do("PATCH", path, []string{`{"name":"at once"}`, `{"workspace":"w"}`}[i]).status
		})
		if got := s.must(200, "GET", path, ""); got["name"] != "at once" || got["workspace"] != "w" {
			t.Errorf("name %v, workspace %v; want both changes", got["name"], got["workspace"])
		}
	})
}
