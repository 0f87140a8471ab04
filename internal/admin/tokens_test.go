package admin_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"eventhooks/internal/admin"
	"eventhooks/internal/auth"
	"eventhooks/internal/hook"
	"eventhooks/internal/ingest"
)

// process is one of a function's processes: what it remembers is its own.
type process struct {
	t       *testing.T
	h       http.Handler
	tokens  *auth.Auth
	request func() *http.Request
}

// use makes a request with the token, and returns its status.
func (p process) use(token string) int {
	p.t.Helper()
	r := p.request()
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	p.h.ServeHTTP(w, r)
	p.tokens.Wait()
	return w.Code
}

// processes are those of both functions, made anew, by their names. Good is 2xx.
func (s *server) processes(t *testing.T) map[string]process {
	t.Helper()
	a := process{t: t, tokens: auth.New(auth.Options{Store: s.store, Now: s.now}), request: func() *http.Request {
		return httptest.NewRequestWithContext(t.Context(), "GET", "/event-hooks", nil)
	}}
	i := process{t: t, tokens: auth.New(auth.Options{Store: s.store, Now: s.now}), request: func() *http.Request {
		return httptest.NewRequestWithContext(t.Context(), "POST", "/events/crud/consumers", strings.NewReader("{}"))
	}}
	var err error
	if a.h, err = admin.New(admin.Options{Store: s.store, RetryQueue: s.queue, Action: s.action, Auth: a.tokens, Now: s.now}); err != nil {
		t.Fatal(err)
	}
	if i.h, err = ingest.New(ingest.Options{Store: s.store, Queue: s.queue, Auth: i.tokens, Now: s.now}); err != nil {
		t.Fatal(err)
	}
	return map[string]process{"admin": a, "ingest": i}
}

// mint makes a token of every use through the API, and returns its id and value.
func (s *server) mint() (id, value string) {
	s.t.Helper()
	made := s.must(201, "POST", "/tokens", `{"name":"x","scopes":["read","ingest"]}`)
	return made["id"].(string), made["token"].(string)
}

// A token that is made works at once, in every process, and one that is revoked
// nowhere after 60 s, whenever it was used last and however often it is tried.
func TestTokens_revocation(t *testing.T) {
	good := map[string]int{"admin": 200, "ingest": 202}
	for _, before := range []time.Duration{0, time.Millisecond, 30 * time.Second, time.Minute - time.Millisecond, time.Minute, time.Hour} {
		for _, step := range []time.Duration{time.Second, 7 * time.Second, time.Minute} {
			t.Run(fmt.Sprintf("used %v before it is revoked, and each %v after", before, step), func(t *testing.T) {
				s := newServer(t)
				all := s.processes(t)
				id, value := s.mint()
				for name, p := range all {
					if got := p.use(value); got != good[name] {
						t.Errorf("%s answers %d to a new token; want %d", name, got, good[name])
					}
				}
				own := func() int { return s.do("GET", "/event-hooks", "", "Authorization", "Bearer "+value).status }
				if got := own(); got != 200 {
					t.Errorf("the process that made it answers %d; want 200", got)
				}
				s.advance(before)
				s.must(204, "DELETE", "/tokens/"+id, "")
				if got := own(); got != 401 {
					t.Errorf("the process that revoked it answers %d; want 401", got)
				}
				for at := step; at <= 3*time.Minute; at += step {
					s.advance(step)
					for name, p := range all {
						if got := p.use(value); got != 401 && at >= time.Minute || got != 401 && got != good[name] {
							t.Errorf("%s answers %d %v after the revocation", name, got, at)
						}
					}
				}
			})
		}
	}

	t.Run("a token that was tried before it was made", func(t *testing.T) {
		s := newServer(t)
		all := s.processes(t)
		for name, p := range all {
			for range 3 {
				if got := p.use("early"); got != 401 {
					t.Errorf("%s answers %d to no token; want 401", name, got)
				}
			}
		}
		s.addToken(hook.Token{ID: auth.Hash("early"), Scopes: []string{hook.ScopeRead, hook.ScopeIngest}})
		for name, p := range all {
			if got := p.use("early"); got != good[name] {
				t.Errorf("%s answers %d to the token; want %d at once", name, got, good[name])
			}
		}
	})

	t.Run("a token that ends", func(t *testing.T) {
		s := newServer(t)
		all := s.processes(t)
		value := s.must(201, "POST", "/tokens", fmt.Sprintf(`{"name":"x","scopes":["read","ingest"],"expires_at":%d}`, clock.Unix()+10))["token"].(string)
		for _, step := range []time.Duration{0, 9 * time.Second, time.Second, time.Hour} {
			s.advance(step)
			for name, p := range all {
				want := good[name]
				if s.now().Unix() >= clock.Unix()+10 {
					want = 401
				}
				if got := p.use(value); got != want {
					t.Errorf("%s answers %d at %v; want %d", name, got, s.now().Sub(clock), want)
				}
			}
		}
	})
}

// What a list says of when tokens were last used.
func TestTokens_lastUsed(t *testing.T) {
	// lastUsed is what the list says of a token, as time since the clock; -1 for
	// null.
	lastUsed := func(t *testing.T, s *server, id string) time.Duration {
		t.Helper()
		for path := "/tokens?size=2"; ; { // pages have their own
			page := s.must(200, "GET", path, "")
			for _, row := range page["data"].([]any) {
				row := row.(map[string]any)
				if row["id"] != id {
					continue
				}
				if row["last_used_at"] == nil {
					return -1
				}
				return time.Duration(int64(row["last_used_at"].(float64))-clock.Unix()) * time.Second
			}
			next, ok := page["next"].(string)
			if !ok {
				t.Fatalf("the list has no %s", id)
			}
			path = next
		}
	}
	type step struct {
		at   time.Duration
		by   string // a process
		want time.Duration
	}
	const hour = time.Hour
	for name, steps := range map[string][]step{
		"not used":                             {{0, "", -1}, {5 * hour, "", -1}},
		"used for reading":                     {{0, "admin", 0}, {hour, "", 0}},
		"used for posting":                     {{0, "ingest", 0}, {hour, "", 0}},
		"used again within the hour":           {{0, "ingest", 0}, {hour - time.Second, "ingest", 0}, {hour, "ingest", hour}},
		"used by several":                      {{0, "ingest", 0}, {hour / 2, "admin", hour / 2}, {hour, "ingest", hour}},
		"used in vain":                         {{0, "denied", 0}},
		"used long ago":                        {{0, "ingest", 0}, {399 * 24 * hour, "", 0}},
		"used longer ago than is remembered":   {{0, "ingest", 0}, {400 * 24 * hour, "", -1}},
		"used again after it was not for long": {{0, "ingest", 0}, {401 * 24 * hour, "ingest", 401 * 24 * hour}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			all := s.processes(t)
			id, value := s.mint()
			s.mint() // and others, which are not used
			s.mint()
			for _, st := range steps {
				s.advance(st.at - s.now().Sub(clock))
				switch p, ok := all[st.by]; {
				case ok:
					p.use(value)
				case st.by == "denied": // it is good, but not for this
					if got := s.do("POST", "/event-hooks", "{}", "Authorization", "Bearer "+value); got.status != 403 {
						t.Fatalf("POST /event-hooks = %d; want 403", got.status)
					}
				}
				if got := lastUsed(t, s, id); got != st.want {
					t.Errorf("last used at %v, %v after it was %q; want %v", got, st.at, st.by, st.want)
				}
			}
		})
	}

	t.Run("nothing is shown when that cannot be read", func(t *testing.T) {
		s := newServerOn(t, func(st admin.Store) admin.Store { return noUses{st} })
		if got := s.do("GET", "/tokens", ""); got.status != 500 || strings.Contains(string(got.body), "away") {
			t.Errorf("GET /tokens = %d %s; want 500", got.status, got.body)
		}
	})
}

// noUses is a store that cannot read uses.
type noUses struct{ admin.Store }

func (noUses) TokenUses(context.Context, []string, int64) (map[string]int64, error) {
	return nil, errors.New("table is away")
}
