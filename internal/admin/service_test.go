package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/action"
	"eventhooks/internal/admin"
	"eventhooks/internal/auth"
	"eventhooks/internal/hook"
	"eventhooks/internal/message"
	"eventhooks/internal/record"
)

const slackHook = `{"source":"balancer","event":"health","handler":"webhook","config":{"url":"https://ok.test/x","secret":"sesame"}}`

func TestNew_saysWhatIsMissing(t *testing.T) {
	_, err := admin.New(admin.Options{})
	for _, name := range []string{"Store", "RetryQueue", "Action", "Auth"} {
		if err == nil || !strings.Contains(err.Error(), "Options."+name) {
			t.Errorf("New(Options{}) = %v; want an error that names %s", err, name)
		}
	}
}

func TestCreateHook_pings(t *testing.T) {
	rows := func(t *testing.T, s *server, id string) []hook.Delivery {
		t.Helper()
		rows, _, err := s.store.ListDeliveries(context.Background(), id, "", "", 10, clock.UnixMilli())
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}

	t.Run("a webhook hook is created with the row of its ping, and the row is woken", func(t *testing.T) {
		s := newServer(t)
		id := s.must(201, "POST", "/event-hooks", slackHook)["id"].(string)
		got := rows(t, s, id)
		if len(got) != 1 {
			t.Fatalf("%d rows; want 1", len(got))
		}
		row := got[0]
		now := clock.UnixMilli()
		want := hook.Delivery{
			HookID: id, Event: row.Event, Gen: 1, Status: hook.Pending, Run: 1, Seq: 1,
			CreatedMS: now, DeadlineMS: now + 5*24*3600*1000, DueMS: now, WakeMS: now + 120_000,
		}
		if diff := cmp.Diff(want, row); diff != "" {
			t.Errorf("row (-want +got):\n%s", diff)
		}
		if row.Event.Source != hook.PingSource || row.Event.Event != hook.PingEvent || !row.Event.Time.Equal(clock) {
			t.Errorf("event = %+v", row.Event)
		}
		var data struct {
			Hook struct {
				ID     string
				Config struct{ Secret, URL string }
			} `json:"event_hooks"`
		}
		if err := json.Unmarshal(row.Event.Data, &data); err != nil || data.Hook.ID != id || data.Hook.Config.Secret != hook.Redacted || data.Hook.Config.URL != "https://ok.test/x" {
			t.Errorf("data = %s, %v; want the hook without its secret", row.Event.Data, err)
		}
		wake := message.Wake(hook.Wake{DeliveryKey: row.Key(), Seq: 1})
		if diff := cmp.Diff([]hook.Message{{Body: wake, Group: id}}, s.queue.sent); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
	})
	t.Run("a wake-up that cannot be sent is the sweep's to heal", func(t *testing.T) {
		s := newServer(t)
		s.queue.err = errors.New("queue is down")
		id := s.must(201, "POST", "/event-hooks", slackHook)["id"].(string)
		if got := rows(t, s, id); len(got) != 1 {
			t.Errorf("%d rows; want 1", len(got))
		}
	})
	t.Run("max_age bounds the ping too", func(t *testing.T) {
		s := newServer(t)
		id := s.must(201, "POST", "/event-hooks", strings.Replace(slackHook, `{`, `{"retry":{"max_age":60},`, 1))["id"].(string)
		if got := rows(t, s, id)[0].DeadlineMS; got != clock.UnixMilli()+60_000 {
			t.Errorf("deadline is %d ms away; want 60000", got-clock.UnixMilli())
		}
	})
	t.Run("PUT that creates pings, PUT that replaces does not", func(t *testing.T) {
		s := newServer(t)
		const id = "00000000-0000-4000-8000-000000000001"
		s.must(200, "PUT", "/event-hooks/"+id, slackHook)
		s.must(200, "PUT", "/event-hooks/"+id, slackHook)
		if got := rows(t, s, id); len(got) != 1 || len(s.queue.sent) != 1 {
			t.Errorf("%d rows, %d wake-ups; want 1, 1", len(got), len(s.queue.sent))
		}
	})
	t.Run("a disabled hook, webhook-custom and log do not ping", func(t *testing.T) {
		s := newServer(t)
		for _, doc := range []string{
			strings.Replace(slackHook, `{`, `{"enabled":false,`, 1),
			`{"source":"crud","handler":"log"}`,
			`{"source":"crud","handler":"webhook-custom","config":{"url":"http://ok.test/","method":"POST"}}`,
		} {
			id := s.must(201, "POST", "/event-hooks", doc)["id"].(string)
			if got := rows(t, s, id); len(got) != 0 || len(s.queue.sent) != 0 {
				t.Errorf("%s: %d rows, %d wake-ups; want none", doc, len(got), len(s.queue.sent))
			}
		}
	})
	t.Run("a hook that is refused leaves nothing", func(t *testing.T) {
		s := newServer(t)
		doc := strings.Replace(slackHook, `{`, `{"id":"00000000-0000-4000-8000-000000000001",`, 1)
		s.must(201, "POST", "/event-hooks", doc)
		s.must(400, "POST", "/event-hooks", doc)
		if got := rows(t, s, "00000000-0000-4000-8000-000000000001"); len(got) != 1 || len(s.queue.sent) != 1 {
			t.Errorf("%d rows, %d wake-ups; want 1, 1", len(got), len(s.queue.sent))
		}
	})
}

func TestHook_generation(t *testing.T) {
	s := newServer(t)
	read := func(id string) hook.Hook {
		t.Helper()
		r, err := s.store.Get(context.Background(), hook.KindHook, id, clock.UnixMilli())
		if err != nil {
			t.Fatal(err)
		}
		h, err := record.ToHook(r)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	id := s.must(201, "POST", "/event-hooks", slackHook)["id"].(string)
	s.must(200, "PATCH", "/event-hooks/"+id, `{"snooze":5}`)
	s.must(200, "PUT", "/event-hooks/"+id, slackHook)
	if h := read(id); h.Gen != 1 || h.Changed != 3 {
		t.Errorf("after two changes: Gen = %d, Changed = %d; want 1, 3", h.Gen, h.Changed)
	}
	s.must(204, "DELETE", "/event-hooks/"+id, "")
	s.must(201, "POST", "/event-hooks", strings.Replace(slackHook, `{`, `{"id":"`+id+`",`, 1))
	if h := read(id); h.Gen != 5 || h.Changed != 5 {
		t.Errorf("made anew: Gen = %d, Changed = %d; want 5, 5", h.Gen, h.Changed)
	}
}

func TestHook_numbersStayAsSent(t *testing.T) {
	s := newServer(t)
	const payload = `{"n":12345678901234567890,"f":1.50,"b":[true,null],"html":"<&>"}`
	got := s.do("POST", "/event-hooks", `{"source":"crud","handler":"webhook-custom","config":{"url":"http://ok.test/","method":"POST","payload": `+payload+`}}`)
	if !strings.Contains(string(got.body), payload) {
		t.Errorf("answer %s; want it to hold %s", got.body, payload)
	}
	id := got.json(t)["id"].(string)
	if got := s.do("POST", "/event-hooks/"+id+"/test", `{"n": 12345678901234567890, "f":1.50}`); !strings.Contains(string(got.body), `{"source":"crud","event":"test","n":12345678901234567890,"f":1.50}`) {
		t.Errorf("test answers %s", got.body)
	}
	if _, ev := s.action.last(t); string(ev.Data) != `{"n": 12345678901234567890, "f":1.50}` && string(ev.Data) != `{"n":12345678901234567890,"f":1.50}` {
		t.Errorf("the action got %s", ev.Data)
	}
}

func TestHook_disabledBySystem(t *testing.T) {
	s := newServer(t)
	id := s.must(201, "POST", "/event-hooks", slackHook)["id"].(string)
	r, err := s.store.Get(context.Background(), hook.KindHook, id, clock.UnixMilli())
	if err != nil {
		t.Fatal(err)
	}
	h, err := record.ToHook(r)
	if err != nil {
		t.Fatal(err)
	}
	h.Enabled, h.DisabledReason = false, "the receiver answered 410 Gone"
	disabled, err := record.Hook(h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.store.Write(context.Background(), hook.FeedHooks, []hook.Change{{Record: disabled, Expect: h.Changed}}, nil, clock.UnixMilli()); err != nil {
		t.Fatal(err)
	}
	got := s.must(200, "PATCH", "/event-hooks/"+id, `{"name":"x","disabled_reason":null}`)
	if got["enabled"] != false || got["disabled_reason"] != h.DisabledReason {
		t.Errorf("after an edit: enabled %v, reason %v; want it to stay disabled", got["enabled"], got["disabled_reason"])
	}
	got = s.must(200, "PATCH", "/event-hooks/"+id, `{"enabled":true}`)
	if got["enabled"] != true || got["disabled_reason"] != nil {
		t.Errorf("enabled again: enabled %v, reason %v; want true, null", got["enabled"], got["disabled_reason"])
	}
}

func TestHook_putOfAGet(t *testing.T) {
	s := newServer(t)
	for _, doc := range []string{
		slackHook,
		`{"source":"crud","handler":"log","tags":["a"],"retry":{"max_age":5},"workspace":"w","name":"n","enabled":false}`,
		`{"source":"crud","handler":"webhook-custom","snooze":0,"on_change":false,"config":{"url":"http://ok.test/","method":"PUT","payload":{"a":{"b":[1,"{{ x }}"]}},"body":"b","headers":{"X-Key":"k"}}}`,
	} {
		id := s.must(201, "POST", "/event-hooks", doc)["id"].(string)
		before := s.do("GET", "/event-hooks/"+id, "")
		s.must(200, "PUT", "/event-hooks/"+id, string(before.body))
		after := s.do("GET", "/event-hooks/"+id, "")
		if diff := cmp.Diff(before.json(t), after.json(t)); diff != "" {
			t.Errorf("%s: a GET put back changed (-before +after):\n%s", doc, diff)
		}
	}
}

func TestHook_tooLarge(t *testing.T) {
	s := newServer(t)
	got := s.must(400, "POST", "/event-hooks", `{"source":"crud","handler":"webhook-custom","config":{"url":"http://ok.test/","method":"POST","body_format":false,"payload_format":false,"body":"`+
		strings.Repeat("x", 60<<10)+`","payload":{"a":"`+strings.Repeat("x", 60<<10)+`"}}}`)
	entity, _ := got["fields"].(map[string]any)["@entity"].([]any)
	if len(entity) != 1 || !strings.HasPrefix(entity[0].(string), "a hook is at most 65536 bytes") {
		t.Errorf("fields = %v; want one fault of @entity", got["fields"])
	}
}

func TestETag(t *testing.T) {
	s := newServer(t)
	created := s.do("POST", "/event-hooks", slackHook)
	id, first := created.json(t)["id"].(string), created.header.Get("ETag")
	path := "/event-hooks/" + id

	t.Run("a change on the version that is stored is made", func(t *testing.T) {
		if got := s.do("PATCH", path, `{"snooze":1}`, "If-Match", first); got.status != 200 || got.header.Get("ETag") == first {
			t.Errorf("PATCH = %d, ETag %s; want 200 and another ETag", got.status, got.header.Get("ETag"))
		}
	})
	t.Run("a change on an old version is not", func(t *testing.T) {
		for _, method := range []string{"PATCH", "PUT", "DELETE"} {
			body := slackHook
			if method == "DELETE" {
				body = ""
			}
			for _, tag := range []string{first, "W/" + s.do("GET", path, "").header.Get("ETag"), "nonsense"} {
				if got := s.do(method, path, body, "If-Match", tag); got.status != 412 {
					t.Errorf("%s with If-Match %s = %d; want 412", method, tag, got.status)
				}
			}
		}
	})
	t.Run("a star and a list match", func(t *testing.T) {
		s.must(200, "PATCH", path, `{}`, "If-Match", "*")
		s.must(200, "PATCH", path, `{}`, "If-Match", `"nope", `+s.do("GET", path, "").header.Get("ETag"))
	})
	t.Run("PUT of what is not there has no version", func(t *testing.T) {
		s.must(412, "PUT", "/event-hooks/00000000-0000-4000-8000-000000000001", slackHook, "If-Match", "*")
	})
	t.Run("of many changes at once on one version one is made", func(t *testing.T) {
		tag := s.do("GET", path, "").header.Get("ETag")
		got := atOnce(8, func(i int) int {
			return s.do("PATCH", path, fmt.Sprintf(`{"snooze":%d}`, i), "If-Match", tag).status
		})
		if got[200] != 1 || got[412] != 7 {
			t.Errorf("answers %v; want one 200 and seven 412", got)
		}
	})
	t.Run("many changes at once without a version are all made", func(t *testing.T) {
		got := atOnce(8, func(i int) int {
			return s.do("PATCH", path, fmt.Sprintf(`{"config":{"headers":{"X":"%d"}}}`, i)).status
		})
		if got[200] != 8 {
			t.Errorf("answers %v; want eight 200", got)
		}
	})
	t.Run("of many creations of one id one is made", func(t *testing.T) {
		got := atOnce(8, func(int) int {
			return s.do("POST", "/event-hooks", `{"source":"crud","handler":"log","id":"00000000-0000-4000-8000-00000000000a"}`).status
		})
		if got[201] != 1 || got[400] != 7 {
			t.Errorf("answers %v; want one 201 and seven 400", got)
		}
		got = atOnce(8, func(int) int {
			return s.do("PUT", "/event-hooks/00000000-0000-4000-8000-00000000000b", slackHook).status
		})
		if got[200] != 8 {
			t.Errorf("answers %v; want eight 200", got)
		}
		rows, _, err := s.store.ListDeliveries(context.Background(), "00000000-0000-4000-8000-00000000000b", "", "", 100, clock.UnixMilli())
		if err != nil || len(rows) != 1 {
			t.Errorf("%d pings of a hook created once, %v; want 1", len(rows), err)
		}
	})
}

// atOnce runs do n times at once and counts what it returns.
func atOnce(n int, do func(i int) int) map[int]int {
	got := map[int]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			r := do(i)
			mu.Lock()
			got[r]++
			mu.Unlock()
		})
	}
	wg.Wait()
	return got
}

func TestUpstreams_atOnce(t *testing.T) {
	s := newServer(t)
	got := atOnce(8, func(int) int { return s.do("POST", "/upstreams", `{"name":"web"}`).status })
	if got[201] != 1 || got[409] != 7 {
		t.Errorf("creations of one name: %v; want one 201 and seven 409", got)
	}
	got = atOnce(8, func(int) int { return s.do("POST", "/upstreams/web/targets", `{"target":"10.0.0.1:80"}`).status })
	if got[201] != 1 || got[409] != 7 {
		t.Errorf("additions of one target: %v; want one 201 and seven 409", got)
	}
}

func TestTargets_limitAndDeletion(t *testing.T) {
	s := newServer(t)
	u := s.must(201, "POST", "/upstreams", `{"name":"web"}`)["id"].(string)
	var changes []hook.Change
	flush := func() {
		t.Helper()
		if _, err := s.store.Write(context.Background(), hook.FeedUpstreams, changes, nil, clock.UnixMilli()); err != nil {
			t.Fatal(err)
		}
		changes = nil
	}
	for i := range 499 {
		r, err := record.Target(hook.Target{
			ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", i), UpstreamID: u, Target: fmt.Sprintf("t%d.test:80", i), Weight: 100,
		})
		if err != nil {
			t.Fatal(err)
		}
		if changes = append(changes, hook.Change{Record: r}); len(changes) == 80 {
			flush()
		}
	}
	flush()
	s.must(201, "POST", "/upstreams/web/targets", `{"target":"last.test"}`)
	got := s.must(400, "POST", "/upstreams/web/targets", `{"target":"one-too-many.test"}`)
	if diff := cmp.Diff(map[string]any{"upstream": "an upstream has at most 500 targets"}, got["fields"]); diff != "" {
		t.Error(diff)
	}
	s.must(200, "PATCH", "/upstreams/web/targets/last.test", `{"weight":1}`)
	s.must(204, "DELETE", "/upstreams/web", "")
	left, _, err := s.store.List(context.Background(), hook.KindTarget, u+"/", "", 10, clock.UnixMilli())
	if err != nil || len(left) != 0 {
		t.Errorf("%d targets of a deleted upstream are left, %v", len(left), err)
	}
}

// TestUpstream_deletionDiesInBetween: whatever write of the deletion is the
// last that is made, another DELETE finishes it.
func TestUpstream_deletionDiesInBetween(t *testing.T) {
	for failAt := 1; failAt <= 3; failAt++ {
		var failing *failingStore
		s := newServerOn(t, func(real admin.Store) admin.Store {
			failing = &failingStore{Store: real}
			return failing
		})
		u := s.must(201, "POST", "/upstreams", `{"name":"web"}`)["id"].(string)
		for i := range 200 {
			r, err := record.Target(hook.Target{ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", i), UpstreamID: u, Target: "x:80"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.store.Write(context.Background(), hook.FeedUpstreams, []hook.Change{{Record: r}}, nil, clock.UnixMilli()); err != nil {
				t.Fatal(err)
			}
		}
		failing.failWrites(failAt)
		s.must(500, "DELETE", "/upstreams/web", "")
		failing.failWrites(0)
		s.must(200, "GET", "/upstreams/web/targets", "")
		s.must(204, "DELETE", "/upstreams/web", "")
		s.must(404, "GET", "/upstreams/"+u, "")
		if left, _, err := s.store.List(context.Background(), hook.KindTarget, u, "", 10, clock.UnixMilli()); err != nil || len(left) > 0 {
			t.Errorf("write %d fails: %d targets left, %v", failAt, len(left), err)
		}
		s.must(201, "POST", "/upstreams", `{"name":"web"}`)
	}
}

// failingStore fails the n-th write from when it was told to, and counts what
// the service asks for.
type failingStore struct {
	admin.Store
	mu     sync.Mutex
	failAt int
	err    error
	calls  int // of any kind
	listed int // records read by List
	rows   int // rows asked for by Deliveries
	writes int
}

// reset begins to count anew.
func (f *failingStore) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls, f.listed, f.rows, f.writes = 0, 0, 0, 0
}

func (f *failingStore) Get(ctx context.Context, kind, id string, now int64) (hook.Record, error) {
	f.called()
	return f.Store.Get(ctx, kind, id, now)
}

func (f *failingStore) called() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
}

func (f *failingStore) Delivery(ctx context.Context, key hook.DeliveryKey, now int64) (hook.Delivery, error) {
	f.called()
	return f.Store.Delivery(ctx, key, now)
}

func (f *failingStore) ListDeliveries(ctx context.Context, hookID string, status hook.Status, before string, limit int, now int64) ([]hook.Delivery, bool, error) {
	f.called()
	return f.Store.ListDeliveries(ctx, hookID, status, before, limit, now)
}

func (f *failingStore) RedeliverDelivery(ctx context.Context, d hook.Delivery, now int64) (int64, error) {
	f.called()
	return f.Store.RedeliverDelivery(ctx, d, now)
}

func (f *failingStore) OpenSnoozes(ctx context.Context, hookID, prefix, after string, limit int, now int64) ([]hook.OpenSnooze, bool, error) {
	f.called()
	return f.Store.OpenSnoozes(ctx, hookID, prefix, after, limit, now)
}

func (f *failingStore) Deliveries(ctx context.Context, keys []hook.DeliveryKey, now int64) ([]hook.Delivery, error) {
	f.mu.Lock()
	f.calls++
	f.rows += len(keys)
	f.mu.Unlock()
	return f.Store.Deliveries(ctx, keys, now)
}

func (f *failingStore) failWrites(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failAt, f.err = n, errors.New("table secret-name-of-the-table is gone")
}

func (f *failingStore) Write(ctx context.Context, feed hook.Feed, changes []hook.Change, rows []hook.Delivery, now int64) (int64, error) {
	f.mu.Lock()
	f.calls++
	f.writes++
	if f.failAt > 0 {
		if f.failAt--; f.failAt == 0 {
			defer f.mu.Unlock()
			return 0, f.err
		}
	}
	f.mu.Unlock()
	return f.Store.Write(ctx, feed, changes, rows, now)
}

func (f *failingStore) List(ctx context.Context, kind, prefix, after string, limit int, now int64) ([]hook.Record, bool, error) {
	page, more, err := f.Store.List(ctx, kind, prefix, after, limit, now)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	f.listed += len(page)
	return page, more, err
}

func TestFailures(t *testing.T) {
	var failing *failingStore
	s := newServerOn(t, func(real admin.Store) admin.Store {
		failing = &failingStore{Store: real}
		return failing
	})
	t.Run("a store that fails is 500: the client learns nothing, the log everything", func(t *testing.T) {
		failing.failWrites(1)
		got := s.must(500, "POST", "/event-hooks", slackHook)
		if diff := cmp.Diff(map[string]any{"message": "An unexpected error occurred"}, got); diff != "" {
			t.Error(diff)
		}
		if log := s.log.String(); !strings.Contains(log, "secret-name-of-the-table") || !strings.Contains(log, `"route":"/event-hooks"`) {
			t.Errorf("log = %s; want the error and the route", log)
		}
	})
	t.Run("a busy store is 503", func(t *testing.T) {
		failing.failWrites(1)
		failing.err = fmt.Errorf("write: %w", hook.ErrBusy)
		got := s.do("POST", "/event-hooks", slackHook)
		if got.status != 503 || got.header.Get("Retry-After") == "" {
			t.Errorf("POST = %d, Retry-After %q; want 503 with one", got.status, got.header.Get("Retry-After"))
		}
	})
	t.Run("a token that cannot be looked up is 500, not 401", func(t *testing.T) {
		svc, err := admin.New(admin.Options{Store: s.store, RetryQueue: s.queue, Action: s.action, Auth: brokenAuth{}})
		if err != nil {
			t.Fatal(err)
		}
		broken := &server{t: t, svc: svc, log: s.log}
		broken.must(500, "GET", "/event-hooks", "")
		broken.must(200, "GET", "/health", "")
	})
}

type brokenAuth struct{}

func (brokenAuth) Forget(string) {}

func (brokenAuth) Authenticate(context.Context, http.Header) (hook.Token, error) {
	return hook.Token{}, errors.New("table is gone")
}

// TestHook_isWritten: what only embellishes the answer to a write does not turn
// the write into a failure, after which it would be made again.
func TestHook_isWritten(t *testing.T) {
	s := newServerOn(t, func(real admin.Store) admin.Store { return &noSources{real} })
	got := s.must(201, "POST", "/event-hooks", `{"source":"mine","event":"happened","handler":"lambda","config":{"functions":["return function () end"]}}`)
	if got["warnings"] != nil {
		t.Errorf("warnings = %v; want none", got["warnings"])
	}
	s.must(200, "PATCH", "/event-hooks/"+got["id"].(string), `{"name":"x"}`)
	if log := s.log.String(); !strings.Contains(log, "sources are gone") {
		t.Errorf("log = %s; want why warnings are missing", log)
	}
}

// noSources has lost the catalogue.
type noSources struct{ admin.Store }

func (n *noSources) Get(ctx context.Context, kind, id string, now int64) (hook.Record, error) {
	if kind == hook.KindSource {
		return hook.Record{}, errors.New("sources are gone")
	}
	return n.Store.Get(ctx, kind, id, now)
}

// TestListHooks_isBounded: a page of many hooks costs what a page of few does.
func TestListHooks_isBounded(t *testing.T) {
	var counting *failingStore
	s := newServerOn(t, func(real admin.Store) admin.Store {
		counting = &failingStore{Store: real}
		return counting
	})
	const n = 10_000
	var changes []hook.Change
	for i := range n {
		r, err := record.Hook(hook.Hook{ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", i), Source: "crud", Handler: hook.HandlerLog, Enabled: true})
		if err != nil {
			t.Fatal(err)
		}
		if changes = append(changes, hook.Change{Record: r}); len(changes) == 80 || i == n-1 {
			if _, err := s.store.Write(context.Background(), hook.FeedHooks, changes, nil, clock.UnixMilli()); err != nil {
				t.Fatal(err)
			}
			changes = changes[:0]
		}
	}
	t.Run("a page reads its own rows only", func(t *testing.T) {
		counting.listed = 0
		seen, next := 0, "/event-hooks?size=1000"
		for pages := 0; next != ""; pages++ {
			if pages > 10 {
				t.Fatal("more than 10 pages of 1,000")
			}
			got := s.must(200, "GET", next, "")
			seen += len(got["data"].([]any))
			next, _ = got["next"].(string)
		}
		if seen != n || counting.listed > n+20 {
			t.Errorf("saw %d hooks, read %d; want %d of both", seen, counting.listed, n)
		}
	})
	t.Run("a filter that nothing passes gives up after a while and says where", func(t *testing.T) {
		counting.listed = 0
		got := s.must(200, "GET", "/event-hooks?source=balancer", "")
		if len(got["data"].([]any)) != 0 || got["next"] == nil || counting.listed > 6000 {
			t.Errorf("%d rows, next %v after reading %d; want none, a next page, at most 6000", len(got["data"].([]any)), got["next"], counting.listed)
		}
		got = s.must(200, "GET", got["next"].(string), "")
		if got["next"] != nil {
			t.Errorf("next = %v; want null at the end", got["next"])
		}
	})
	t.Run("a page ends before Lambda's answer would be too large", func(t *testing.T) {
		doc := `{"source":"balancer","handler":"webhook-custom","config":{"url":"http://ok.test/","method":"POST","body_format":false,"body":"` + strings.Repeat("x", 60<<10) + `"}}`
		for i := range 80 {
			s.must(200, "PUT", fmt.Sprintf("/event-hooks/00000000-0000-4000-8000-%012d", i), doc)
		}
		got := s.do("GET", "/event-hooks?size=1000", "")
		if len(got.body) > 5<<20 || got.json(t)["next"] == nil {
			t.Errorf("%d bytes, next %v; want at most 5 MB and a next page", len(got.body), got.json(t)["next"])
		}
	})
}

func TestDeliveries(t *testing.T) {
	s := newServer(t)
	id := s.must(201, "POST", "/event-hooks", `{"source":"crud","handler":"webhook","enabled":false,"config":{"url":"https://ok.test/hidden"}}`)["id"].(string)
	path := "/event-hooks/" + id + "/deliveries"
	if got := s.must(200, "GET", path, ""); len(got["data"].([]any)) != 0 {
		t.Errorf("deliveries of a new hook: %v", got)
	}
	event := func(i int) string { return fmt.Sprintf("01975b6e-3c4b-7d3e-8a01-%012d", i) }
	now := clock.UnixMilli()
	put := func(d hook.Delivery) {
		t.Helper()
		d.HookID, d.Event.Time, d.Gen, d.Run, d.Seq = id, clock, 1, 1, 1
		if created, err := s.store.CreateDelivery(context.Background(), d, now); err != nil || !created {
			t.Fatalf("CreateDelivery = %t, %v", created, err)
		}
	}
	put(hook.Delivery{
		Event:  hook.Event{ID: event(1), Source: "crud", Event: "consumers", Data: []byte(`{"n":12345678901234567890}`)},
		Status: hook.Failed, Reason: hook.ReasonGone, CreatedMS: now, DeadlineMS: now + 1000, ExpiresAt: now/1000 + 100, Attempt: 2,
		Attempts: []hook.Attempt{
			{AtMS: now, TookMS: 12, Code: 500, Error: "the receiver answered 500", IP: "203.0.113.7"},
			{AtMS: now + 5001, TookMS: 3, Error: "connection refused"},
		},
		Response: &hook.Response{Code: 410, Headers: map[string]string{"X-Token": "sesame", "X-A": "b"}, Body: "gone"},
	})
	put(hook.Delivery{
		Event:  hook.Event{ID: event(2), Source: "crud", Event: "consumers", Data: []byte(`{}`)},
		Status: hook.Pending, CreatedMS: now, DeadlineMS: now + 1000, DueMS: now + 5000, WakeMS: now + 5000,
	})
	put(hook.Delivery{
		Event:  hook.Event{ID: event(3), Source: hook.PingSource, Event: hook.PingEvent, Data: []byte(`{"event_hooks":{"id":"x","config":{"url":"https://ok.test/hidden?x"},"n":1.50}}`)},
		Status: hook.Superseded, Reason: hook.ReasonNewer, CreatedMS: now, DeadlineMS: now, ExpiresAt: now/1000 + 100,
	})

	ids := func(got map[string]any) string {
		var list []string
		for _, row := range got["data"].([]any) {
			list = append(list, strings.TrimLeft(row.(map[string]any)["event_id"].(string)[24:], "0"))
		}
		return strings.Join(list, ",")
	}
	t.Run("newest first, by status, in pages", func(t *testing.T) {
		for query, want := range map[string]string{"": "3,2,1", "?status=pending": "2", "?status=failed": "1", "?status=delivered": "", "?size=2": "3,2"} {
			if got := ids(s.must(200, "GET", path+query, "", "Authorization", "Bearer read-token")); got != want {
				t.Errorf("deliveries%s = %s; want %s", query, got, want)
			}
		}
		page := s.must(200, "GET", path+"?size=2", "")
		if got := ids(s.must(200, "GET", page["next"].(string), "")); got != "1" {
			t.Errorf("the next page = %s; want 1", got)
		}
		s.must(400, "GET", path+"?status=lost", "")
		s.must(400, "GET", path+"?size=-1", "")
		s.must(400, "GET", path+"?offset=x", "")
	})
	t.Run("a row says what became of it", func(t *testing.T) {
		got := s.do("GET", path+"/"+event(1), "")
		want := `{"event_id":"` + event(1) + `","hook_id":"` + id + `","source":"crud","event":"consumers","status":"failed","run":1,"due_at":null,"reason":"gone",` +
			`"created_at":"2026-11-21T18:00:00.123Z","attempts":[` +
			`{"at":"2026-11-21T18:00:00.123Z","took_ms":12,"status":500,"error":"the receiver answered 500","ip":"203.0.113.7"},` +
			`{"at":"2026-11-21T18:00:05.124Z","took_ms":3,"status":null,"error":"connection refused","ip":null}],` +
			`"data":{"n":12345678901234567890},"request":{"method":"POST","url":"https://ok.test/hidden","headers":{"Content-Type":"application/json","User-Agent":"eventhooks/1.2.3",` +
			`"Webhook-Id":"` + event(1) + `_` + id + `","Webhook-Timestamp":"1795284005"},"body":"{\"source\":\"crud\",\"event\":\"consumers\",\"n\":12345678901234567890}"},` +
			`"rendered_with":"\"1\"","request_error":null,"response":{"status":410,"headers":{"X-A":"b","X-Token":"[redacted]"},"body":"gone"}}`
		if string(got.body) != want {
			t.Errorf("delivery = %s\nwant %s", got.body, want)
		}
		if got := s.must(200, "GET", path+"/"+event(2), ""); got["due_at"] != "2026-11-21T18:00:05.123Z" || got["response"] != nil {
			t.Errorf("due_at %v, response %v; want its due time and null", got["due_at"], got["response"])
		}
	})
	t.Run("a reader does not see the URL in a ping", func(t *testing.T) {
		if got := s.do("GET", path+"/"+event(3), "", "Authorization", "Bearer read-token"); strings.Contains(string(got.body), "hidden") || !strings.Contains(string(got.body), "https://ok.test/[redacted]") {
			t.Errorf("delivery = %s", got.body)
		}
		if got := s.do("GET", path+"/"+event(3), ""); !strings.Contains(string(got.body), "hidden") {
			t.Errorf("delivery for admin = %s", got.body)
		}
	})
	t.Run("what is not there is not found, but rows outlive their hook", func(t *testing.T) {
		s.must(404, "GET", path+"/"+event(9), "")
		s.must(400, "GET", path+"/nonsense", "")
		s.must(404, "GET", "/event-hooks/00000000-0000-4000-8000-000000000000/deliveries", "")
		s.must(400, "GET", "/event-hooks/x/deliveries", "")
		s.must(204, "DELETE", "/event-hooks/"+id, "")
		if got := ids(s.must(200, "GET", path, "")); got != "3,2,1" {
			t.Errorf("deliveries of a deleted hook = %s; want 3,2,1", got)
		}
	})
}

func TestHealth(t *testing.T) {
	s := newServer(t)
	u := s.must(201, "POST", "/upstreams", `{"name":"web"}`)["id"].(string)
	target := func(doc string) string {
		t.Helper()
		return s.must(201, "POST", "/upstreams/web/targets", doc)["id"].(string)
	}
	up, down, off := target(`{"target":"up.test:80"}`), target(`{"target":"down.test:80"}`), target(`{"target":"off.test:80","weight":0}`)
	lost, fresh := target(`{"target":"lost.test:80"}`), target(`{"target":"fresh.test:80"}`)
	now := clock.UnixMilli()
	lease, held, err := s.store.AcquireProbe(context.Background(), u, now, now+70_000)
	if err != nil || !held {
		t.Fatalf("AcquireProbe = %t, %v", held, err)
	}
	lease.Summary, err = record.EncodeSummary(record.Summary{LastMS: now, Note: "a note", Targets: []record.TargetSummary{
		{TargetID: up, Address: up + "/10.0.0.1", IP: "10.0.0.1", Port: 80, Health: "unhealthy", SinceMS: now, LastMS: now, Result: record.ResultFailure, Reason: "connection refused", NextMS: now + 60_000, TCPFailures: 2},
		{TargetID: up, Address: up + "/10.0.0.2", IP: "10.0.0.2", Port: 80, Health: "mostly_healthy", SinceMS: now - 1000, LastMS: now, Result: record.ResultSuccess, DNSMS: 1.5, ConnectMS: 2, NextMS: now + 30_000},
		{TargetID: down, Address: down + "/10.0.0.3", IP: "10.0.0.3", Port: 80, Health: "healthy", LastMS: now, Result: record.ResultFailure, Reason: "status 503", NextMS: now + 60_000},
		{TargetID: lost, Port: 80, Hostname: "lost.test", DNSError: "name does not resolve", LastMS: now, NextMS: now + 60_000},
	}})
	if err != nil {
		t.Fatal(err)
	}
	// The state is newer than the summary: it decides.
	if err := s.store.PutProbeState(context.Background(), lease, hook.ProbeState{Address: down + "/10.0.0.3", Health: hook.Unhealthy, SinceMS: now, HTTP: 2}, now); err != nil {
		t.Fatal(err)
	}
	if err := s.store.ReleaseProbe(context.Background(), lease, now); err != nil {
		t.Fatal(err)
	}

	got := s.must(200, "GET", "/upstreams/web/health", "", "Authorization", "Bearer read-token")
	if got["note"] != "a note" {
		t.Errorf("note = %v", got["note"])
	}
	rows := map[string]map[string]any{}
	for _, row := range got["data"].([]any) {
		rows[row.(map[string]any)["id"].(string)] = row.(map[string]any)
	}
	for id, want := range map[string]string{up: "HEALTHY", down: "UNHEALTHY", off: "HEALTHCHECKS_OFF", lost: "DNS_ERROR", fresh: "HEALTHY"} {
		if rows[id]["health"] != want {
			t.Errorf("%v is %v; want %s", rows[id]["target"], rows[id]["health"], want)
		}
	}
	if got := len(rows[up]["data"].(map[string]any)["addresses"].([]any)); got != 2 {
		t.Errorf("%d addresses; want 2", got)
	}
	wantProbe := map[string]any{
		"at": "2026-11-21T18:00:00.123Z", "result": "success", "reason": nil, "dns_ms": 1.5, "connect_ms": 2.0, "tls_ms": nil, "first_byte_ms": nil,
		"certificate_expires_at": nil,
	}
	if diff := cmp.Diff(wantProbe, rows[up]["last_probe"]); diff != "" {
		t.Errorf("last_probe (-want +got):\n%s", diff)
	}
	if rows[up]["since"] != "2026-11-21T17:59:59.123Z" || rows[up]["next_probe"] != "2026-11-21T18:00:30.123Z" {
		t.Errorf("since %v, next_probe %v", rows[up]["since"], rows[up]["next_probe"])
	}
	if diff := cmp.Diff(map[string]any{"successes": 0.0, "http_failures": 2.0, "tcp_failures": 0.0, "timeouts": 0.0}, rows[down]["counters"]); diff != "" {
		t.Errorf("counters (-want +got):\n%s", diff)
	}
	if p, _ := rows[lost]["last_probe"].(map[string]any); p["result"] != "dns" || p["reason"] != "name does not resolve" {
		t.Errorf("last_probe of a name that does not resolve = %v", p)
	}

	s.must(200, "PATCH", "/upstreams/web", `{"healthchecks":{"active":{"healthy":{"interval":0},"unhealthy":{"interval":0}}}}`)
	for _, row := range s.must(200, "GET", "/upstreams/"+u+"/health", "")["data"].([]any) {
		if row := row.(map[string]any); row["health"] != "HEALTHCHECKS_OFF" || row["next_probe"] != nil {
			t.Errorf("switched off: %v is %v, next probe %v", row["target"], row["health"], row["next_probe"])
		}
	}
}

func TestTrial_isBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		id := s.must(201, "POST", "/event-hooks", `{"source":"crud","handler":"webhook","enabled":false,"config":{"url":"http://hangs.test/","timeout":30}}`)["id"].(string)
		for timeout, want := range map[int]time.Duration{30: 20 * time.Second, 3: 3 * time.Second} {
			s.must(200, "PATCH", "/event-hooks/"+id, fmt.Sprintf(`{"config":{"timeout":%d}}`, timeout))
			start := time.Now()
			got := s.must(200, "POST", "/event-hooks/"+id+"/test", `{}`)
			if took := time.Since(start); took != want {
				t.Errorf("a test with timeout %d took %v; want %v", timeout, took, want)
			}
			if result, _ := got["result"].(map[string]any); result["error"] != "no answer in time" {
				t.Errorf("result = %v", got["result"])
			}
			if h, _ := s.action.last(t); h.Config.TimeoutSeconds() != int64(want/time.Second) {
				t.Errorf("the action was given %d s; want %v", h.Config.TimeoutSeconds(), want)
			}
		}
	})
}

func TestMintToken(t *testing.T) {
	s := newServer(t)
	got, err := s.svc.MintToken(context.Background(), json.RawMessage(`{"name":"first","scopes":["admin"]}`))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var minted struct{ ID, Name, Token string }
	if err := json.Unmarshal(raw, &minted); err != nil {
		t.Fatal(err)
	}
	if minted.Name != "first" || auth.Hash(minted.Token) != minted.ID {
		t.Errorf("minted %s", raw)
	}
	s.must(200, "GET", "/tokens", "", "Authorization", "Bearer "+minted.Token)
	// Only its hash is stored.
	r, err := s.store.Get(context.Background(), hook.KindToken, minted.ID, clock.UnixMilli())
	if err != nil || strings.Contains(string(r.Data), minted.Token) {
		t.Errorf("stored %s, %v", r.Data, err)
	}
	for _, bad := range []string{`{}`, `[]`, `{"name":"x","scopes":["root"]}`, `{"name":"x","scopes":["admin"],"scopes":["read"]}`, `nonsense`, ``, `{"name":"x","scopes":["admin"],"more":1}`} {
		if got, err := s.svc.MintToken(context.Background(), json.RawMessage(bad)); err == nil {
			t.Errorf("MintToken(%s) = %v; want an error", bad, got)
		}
	}
}

// TestSecretsStayInside puts one secret into every field that hides it and
// looks for it in all that comes out.
func TestSecretsStayInside(t *testing.T) {
	s := newServer(t)
	const secret = "open-sesame"
	doc := `{"source":"crud","handler":"%s","config":{"url":"https://down.test/x"%s,"secret":"` + secret + `","headers":{"Authorization":"` + secret + `","X-Api-Key":"` + secret + `","Cookie":"` + secret + `"}}}`
	var out strings.Builder
	keep := func(got reply) reply {
		out.Write(got.body)
		return got
	}
	for _, doc := range []string{fmt.Sprintf(doc, "webhook", ""), fmt.Sprintf(doc, "webhook-custom", `,"method":"POST"`)} {
		path := "/event-hooks/" + keep(s.do("POST", "/event-hooks", doc)).json(t)["id"].(string)
		keep(s.do("GET", path, ""))
		keep(s.do("PUT", path, doc))
		keep(s.do("PATCH", path, `{"config":{"secret":"`+secret+`"}}`))
		keep(s.do("PATCH", path, `{"config":{"secret":"`+secret+`","timeout":99}}`))
		keep(s.do("POST", path+"/test", `{}`))
		keep(s.do("GET", path+"/ping", ""))
		keep(s.do("POST", "/event-hooks/render", `{"hook":`+string(keep(s.do("GET", path, "")).body)+`}`))
		keep(s.do("POST", path+"/secret/rotate", ""))
		keep(s.do("POST", path+"/secret/rotate", ""))
		keep(s.do("POST", "/event-hooks/render", `{"hook":`+string(keep(s.do("GET", path, "")).body)+`}`))
		keep(s.do("POST", path+"/redeliver", `{"status":"pending"}`))
		deliveries := keep(s.do("GET", path+"/deliveries", "")).json(t)
		for _, row := range deliveries["data"].([]any) {
			event := row.(map[string]any)["event_id"].(string)
			keep(s.do("GET", path+"/deliveries/"+event, ""))
			keep(s.do("POST", path+"/deliveries/"+event+"/redeliver", ""))
			keep(s.do("GET", "/events/"+event+"/deliveries", ""))
		}
	}
	keep(s.do("GET", "/event-hooks", ""))
	keep(s.do("POST", "/upstreams", `{"name":"web","healthchecks":{"active":{"headers":{"Authorization":["`+secret+`"]}}}}`))
	keep(s.do("GET", "/upstreams", ""))
	for name, text := range map[string]string{"answers": out.String(), "the log": s.log.String(), "messages": fmt.Sprint(s.queue.sent)} {
		if strings.Contains(text, secret) {
			t.Errorf("%s hold the secret: %s", name, text)
		}
	}
	if _, ev := s.action.last(t); strings.Contains(string(ev.Data), secret) {
		t.Errorf("a ping holds the secret: %s", ev.Data)
	}
}

// FuzzBody: no body makes the service fail or panic, and every answer keeps
// the contract.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{
		slackHook, `{}`, `{"source":"a","handler":"log"}`, `{"config":{"headers":{"a":null}}}`, `[`, `{"a":{"a":{"a":1e999}}}`,
		`source=a&handler=log`, `config.headers.x=1&config=2`, `tags[3]=a&tags[]=b&tags=c`, `a[=1&]b=2&.=3&..=4&a.=5`,
		`{"name":"x","healthchecks":{"passive":{"type":{}},"active":{"headers":{"a":[null]}}}}`, `{"slots":10000.0,"algorithm":[]}`,
		`{"source":"a","handler":"webhook-custom","config":{"url":"http://x/","method":"M","payload":{"a":"{{"},"body":"{*x*}"}}`,
		`{"source":"a","handler":"lambda","config":{"functions":["return function() end","return 1","("]},"filter":{"a":[{"exists":true}],"$or":[{"b":[1]}]}}`,
		`{"hook":{"source":"a","handler":"webhook","config":{"url":"http://x/","secret":"[redacted]"}},"data":{"a":1}}`, `{"hook":[],"event":5}`,
		`{"status":"pending","since":"2026-11-21T18:00:00Z","until":5e9,"dry_run":true}`, `{"finish":true}`,
		"--x\r\nContent-Disposition: form-data; name=\"source\"\r\n\r\na\r\n--x\r\nContent-Disposition: form-data; name=\"handler\"; filename=\"f\"\r\n\r\nlog\r\n--x--\r\n",
		"--x\r\n\r\n--x--", "--x--", "--x\nContent-Disposition: form-data; name=a.b[1]\n\n\n--x",
	} {
		for mediaType := range uint8(3) {
			f.Add(seed, mediaType)
		}
	}
	s := newServer(f)
	id := s.must(201, "POST", "/event-hooks", slackHook)["id"].(string)
	hookPath, delivery := "/event-hooks/"+id, s.row(id, 0, nil)
	s.must(201, "POST", "/upstreams", `{"name":"web"}`)
	target := "/upstreams/web/targets/" + s.must(201, "POST", "/upstreams/web/targets", `{"target":"x"}`)["id"].(string)
	f.Fuzz(func(t *testing.T, body string, mediaType uint8) {
		contentType := []string{"application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"}[mediaType%3]
		s.t = t
		for _, route := range []string{
			"POST /event-hooks", "PATCH " + hookPath, "PUT " + hookPath, "POST " + hookPath + "/test", "POST /event-hooks/render",
			"POST " + hookPath + "/redeliver", "POST " + redeliverPath(delivery), "POST " + hookPath + "/secret/rotate",
			"PUT /event-hooks/sources/a/b", "PATCH /upstreams/web", "PUT /upstreams/web", "PATCH " + target, "POST /tokens",
		} {
			method, path, _ := strings.Cut(route, " ")
			if got := s.do(method, path, body, "Content-Type", contentType); got.status >= 500 {
				t.Errorf("%s %q = %d: %s", route, body, got.status, s.log)
			}
		}
	})
}

// FuzzPath: no path and no query do.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{"event-hooks", "/event-hooks/%2f", "a/upstreams/%00", "event-hooks?offset=WyIiXQ", "upstreams/x/targets/y?size=1e2&tags=,", "tokens/..", "%zz"} {
		f.Add(seed)
	}
	s := newServer(f)
	s.must(201, "POST", "/upstreams", `{"name":"x"}`)
	f.Fuzz(func(t *testing.T, path string) {
		r, err := http.NewRequest(http.MethodGet, "http://x/"+path, nil)
		if err != nil {
			return // no client can send it
		}
		r.Header.Set("Authorization", "Bearer admin-token")
		for _, method := range []string{"GET", "DELETE", "PUT"} {
			r.Method = method
			w := newRecorder()
			s.svc.ServeHTTP(w, r)
			if w.status >= 500 {
				t.Errorf("%s %s = %d: %s", method, path, w.status, s.log)
			}
		}
	})
}

type recorder struct {
	header http.Header
	status int
}

func newRecorder() *recorder { return &recorder{header: http.Header{}} }

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) Write(p []byte) (int, error) { return len(p), nil }
func (r *recorder) WriteHeader(status int)      { r.status = status }

// The real action is what the service is given.
var _ admin.Action = (*action.Runner)(nil)
