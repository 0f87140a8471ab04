package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"eventhooks/internal/action"
	"eventhooks/internal/admin"
	"eventhooks/internal/auth"
	"eventhooks/internal/boltstore"
	"eventhooks/internal/hook"
	"eventhooks/internal/lua"
	"eventhooks/internal/message"
	"eventhooks/internal/record"
)

// clock is the time of all tests: Unix 1795284000.
var clock = time.Date(2026, 11, 21, 18, 0, 0, 123e6, time.UTC)

// server is the service on a store of its own, with a token of each scope.
type server struct {
	t      testing.TB
	svc    *admin.Service
	store  *boltstore.Store
	tokens *auth.Auth // nil for none that notes anything
	queue  *queue
	action *receivers
	log    *lockedBuffer
	later  atomic.Int64 // how long after clock it is, nanoseconds
}

// now is the server's time.
func (s *server) now() time.Time { return clock.Add(time.Duration(s.later.Load())) }

// advance lets time pass.
func (s *server) advance(d time.Duration) { s.later.Add(int64(d)) }

func newServer(t testing.TB) *server {
	return newServerOn(t, nil)
}

// newServerOn puts wrap, unless nil, between the service and its store.
func newServerOn(t testing.TB, wrap func(admin.Store) admin.Store) *server {
	t.Helper()
	store, err := boltstore.Open(filepath.Join(t.TempDir(), "store.db"), boltstore.Options{NoSync: true, PageBytes: 4 << 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	pool := lua.NewPool(lua.Options{})
	t.Cleanup(pool.Close)
	s := &server{t: t, store: store, queue: &queue{}, action: &receivers{Runner: action.New(action.Options{Lua: pool, Version: "1.2.3"})}, log: &lockedBuffer{}}
	var used admin.Store = store
	if wrap != nil {
		used = wrap(store)
	}
	s.tokens = auth.New(auth.Options{Store: store, Now: s.now})
	t.Cleanup(s.tokens.Wait)
	s.svc, err = admin.New(admin.Options{
		Store: used, RetryQueue: s.queue, Action: s.action, Auth: s.tokens,
		Check: action.Check, Names: action.Names, Version: "1.2.3", Now: s.now,
		Log: slog.New(slog.NewJSONHandler(s.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, scope := range []string{hook.ScopeAdmin, hook.ScopeRead, hook.ScopeIngest} {
		s.addToken(hook.Token{ID: auth.Hash(scope + "-token"), Name: scope, Scopes: []string{scope}, CreatedAt: clock.Unix()})
	}
	return s
}

func (s *server) addToken(tok hook.Token) {
	s.t.Helper()
	r, err := record.Token(tok)
	if err != nil {
		s.t.Fatal(err)
	}
	_, err = s.store.Write(context.Background(), hook.FeedNone, []hook.Change{{Record: r, Expect: hook.ExpectAny}}, nil, clock.UnixMilli())
	if err != nil {
		s.t.Fatal(err)
	}
}

// reply is an answer.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// json returns the answer's body.
func (r reply) json(t testing.TB) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(r.body, &v); err != nil {
		t.Fatalf("answer %d is no JSON object: %v: %s", r.status, err, r.body)
	}
	return v
}

// do makes a request as admin; header is name, value, name, value. Its answer
// is held to the contract.
func (s *server) do(method, path, body string, header ...string) reply {
	s.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r := httptest.NewRequestWithContext(context.Background(), method, path, reader)
	r.Header.Set("Authorization", "Bearer admin-token")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Del(header[i])
		if header[i+1] != "" {
			r.Header.Set(header[i], header[i+1])
		}
	}
	w := httptest.NewRecorder()
	s.svc.ServeHTTP(w, r)
	if s.tokens != nil {
		s.tokens.Wait() // as after each request in Lambda
	}
	got := reply{w.Code, w.Header(), w.Body.Bytes()}
	promised(s.t, method, path, got.status, got.body)
	if got.status >= 500 {
		s.t.Logf("log: %s", s.log)
	}
	return got
}

// must makes a request whose answer has the status, and returns its body.
func (s *server) must(status int, method, path, body string, header ...string) map[string]any {
	s.t.Helper()
	got := s.do(method, path, body, header...)
	if got.status != status {
		s.t.Fatalf("%s %s = %d; want %d: %s", method, path, got.status, status, got.body)
	}
	if len(got.body) == 0 {
		return nil
	}
	return got.json(s.t)
}

// queue remembers what was sent.
type queue struct {
	mu     sync.Mutex
	sent   []hook.Message
	err    error
	before func(msgs []hook.Message) // called before anything is sent, unless nil
}

func (q *queue) Send(_ context.Context, msgs []hook.Message) ([]int, error) {
	if q.before != nil {
		q.before(msgs)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return []int{0}, q.err
	}
	q.sent = append(q.sent, msgs...)
	return nil, nil
}

// wakes returns the wake-ups that were sent, and forgets them.
func (q *queue) wakes(t testing.TB) []hook.Wake {
	t.Helper()
	q.mu.Lock()
	defer q.mu.Unlock()
	var wakes []hook.Wake
	for _, m := range q.sent {
		body, err := message.Decode(m.Body)
		if err != nil || body.Wake == nil || m.Group != body.Wake.HookID || m.Delay != 0 {
			t.Fatalf("sent %+v, %v; want a wake-up for now, in its hook's group", m, err)
		}
		wakes = append(wakes, *body.Wake)
	}
	q.sent = nil
	return wakes
}

// receivers is an action whose ends depend on the URL's host. Its requests are
// the real ones.
type receivers struct {
	*action.Runner
	mu    sync.Mutex
	seen  []hook.Event
	hooks []hook.Hook
}

func (r *receivers) Do(ctx context.Context, h hook.Hook, ev hook.Event, at time.Time) hook.Outcome {
	r.mu.Lock()
	r.seen, r.hooks = append(r.seen, ev), append(r.hooks, h)
	r.mu.Unlock()
	switch h.Handler {
	case hook.HandlerLog:
		return hook.Outcome{Verdict: hook.Success}
	case hook.HandlerLambda: // the real thing
		return r.Runner.Do(ctx, h, ev, at)
	}
	u, _ := url.Parse(h.Config.URL)
	switch u.Hostname() {
	case "hangs.test":
		select {
		case <-ctx.Done():
			return hook.Outcome{Error: "the caller gave up first"}
		case <-time.After(time.Duration(h.Config.TimeoutSeconds()) * time.Second):
			return hook.Outcome{Error: "no answer in time"}
		}
	case "down.test":
		return hook.Outcome{Error: "connection refused"}
	case "oops.test":
		return hook.Outcome{Error: "the receiver answered 500 Internal Server Error", Code: 500, Response: &hook.Response{
			Code: 500, Headers: map[string]string{"Content-Type": "text/plain", "X-Api-Key": "sesame"}, Body: "oops",
		}}
	}
	return hook.Outcome{Verdict: hook.Success, Code: 200, Response: &hook.Response{
		Code: 200, Headers: map[string]string{"Content-Type": "text/plain"}, Body: "<ok>",
	}}
}

func (r *receivers) last(t testing.TB) (hook.Hook, hook.Event) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.seen) == 0 {
		t.Fatal("no action ran")
	}
	return r.hooks[len(r.hooks)-1], r.seen[len(r.seen)-1]
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
