package ingest_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"eventhooks/internal/auth"
	"eventhooks/internal/eventid"
	"eventhooks/internal/hook"
	"eventhooks/internal/ingest"
	"eventhooks/internal/message"
)

// store is a store of sources and claims.
type store struct {
	mu      sync.Mutex
	epoch   int64
	sources map[string]hook.Record
	claims  map[string]hook.IngestClaim
	reads   int // of the epoch

	err, claimErr, finishErr error
}

func (s *store) register(key string, deleted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	if s.sources == nil {
		s.sources = map[string]hook.Record{}
	}
	s.sources[key] = hook.Record{Kind: hook.KindSource, ID: key, Changed: s.epoch, Deleted: deleted}
}

func (s *store) Epoch(context.Context, hook.Feed) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	return s.epoch, s.err
}

func (s *store) List(context.Context, string, string, string, int, int64) (page []hook.Record, more bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.sources {
		if !r.Deleted {
			page = append(page, r)
		}
	}
	slices.SortFunc(page, func(a, b hook.Record) int { return cmp.Compare(a.ID, b.ID) })
	return page, false, s.err
}

func (s *store) Changes(_ context.Context, _ string, since int64) (rs []hook.Record, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.sources {
		if r.Changed > since {
			rs = append(rs, r)
		}
	}
	return rs, s.err
}

func (s *store) ClaimIngest(_ context.Context, c hook.IngestClaim, now int64) (hook.IngestClaim, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.claimErr != nil {
		return hook.IngestClaim{}, s.claimErr
	}
	k := c.TokenID + " " + c.Key
	if old, ok := s.claims[k]; ok && old.ExpiresAt > now/1000 {
		return old, nil
	}
	if s.claims == nil {
		s.claims = map[string]hook.IngestClaim{}
	}
	s.claims[k] = c
	return c, nil
}

func (s *store) FinishIngest(_ context.Context, c hook.IngestClaim) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.finishErr == nil {
		c.Pending = false
		s.claims[c.TokenID+" "+c.Key] = c
	}
	return s.finishErr
}

// queue keeps what was sent, except what refuse names.
type queue struct {
	mu     sync.Mutex
	sends  int
	sent   []hook.Message
	refuse func(send int, msgs []hook.Message) ([]int, error)
}

func (q *queue) Send(_ context.Context, msgs []hook.Message) (failed []int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sends++
	if q.refuse != nil {
		failed, err = q.refuse(q.sends, msgs)
	}
	for i, m := range msgs {
		if !slices.Contains(failed, i) {
			q.sent = append(q.sent, m)
		}
	}
	return failed, err
}

// events returns the events of all messages that were sent.
func (q *queue) events(t testing.TB) (events []hook.Event) {
	t.Helper()
	for _, m := range q.sent {
		msg, err := message.Decode(m.Body)
		if err != nil || msg.Events == nil || m.Delay != 0 {
			t.Fatalf("Decode(%s) = %+v, %v; want events", m.Body, msg, err)
		}
		events = append(events, msg.Events...)
	}
	return events
}

// tokens knows tokens by their value.
type tokens map[string]hook.Token

func (k tokens) Authenticate(_ context.Context, h http.Header) (hook.Token, error) {
	value := strings.TrimPrefix(h.Get("Authorization"), "Bearer ")
	if value == "broken" {
		return hook.Token{}, errors.New("table is away")
	}
	t, ok := k[value]
	if !ok {
		return hook.Token{}, auth.ErrUnauthorized
	}
	t.ID = auth.Hash(value)
	return t, nil
}

var known = tokens{
	"ingest": {Scopes: []string{hook.ScopeIngest}},
	"other":  {Scopes: []string{hook.ScopeIngest, hook.ScopeRead}},
	"crud":   {Scopes: []string{hook.ScopeIngest}, Sources: []string{"crud", "dao:crud"}},
	"admin":  {Scopes: []string{hook.ScopeAdmin, hook.ScopeRead}},
}

// bench is a service and what it stands on.
type bench struct {
	t     testing.TB
	svc   *ingest.Service
	store *store
	queue *queue
	log   *bytes.Buffer
}

var noon = time.Date(2026, 11, 21, 12, 0, 0, 345_678_901, time.UTC)

func newBench(t testing.TB, change ...func(*ingest.Options)) *bench {
	t.Helper()
	b := &bench{t: t, store: &store{}, queue: &queue{}, log: &bytes.Buffer{}}
	o := ingest.Options{
		Store: b.store, Queue: b.queue, Auth: known, Now: func() time.Time { return noon },
		Log: slog.New(slog.NewJSONHandler(b.log, nil)),
	}
	for _, f := range change {
		f(&o)
	}
	svc, err := ingest.New(o)
	if err != nil {
		t.Fatal(err)
	}
	b.svc = svc
	return b
}

// answer is what a client gets.
type answer struct {
	Status  int
	Header  http.Header
	Body    string
	Events  []struct{ ID string }
	Message string
	Index   *int
	Fields  map[string]string
}

func (a answer) ids() (ids []string) {
	for _, e := range a.Events {
		ids = append(ids, e.ID)
	}
	return ids
}

// do sends a request; header is "Name: value" lines.
func (b *bench) do(method, path, body string, header ...string) answer {
	b.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer ingest")
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	return b.serve(r)
}

func (b *bench) serve(r *http.Request) answer {
	b.t.Helper()
	w := httptest.NewRecorder()
	b.svc.ServeHTTP(w, r)
	a := answer{Status: w.Code, Header: w.Header(), Body: w.Body.String()}
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		b.t.Fatalf("%s %s: %d %s: %v", r.Method, r.URL, w.Code, a.Body, err)
	}
	if got := w.Header().Get("Content-Type"); got != "application/json; charset=utf-8" {
		b.t.Errorf("Content-Type = %s", got)
	}
	if w.Code != http.StatusAccepted && a.Message == "" {
		b.t.Errorf("%d without a message: %s", w.Code, a.Body)
	}
	return a
}

func (b *bench) post(path, body string, header ...string) answer {
	b.t.Helper()
	return b.do(http.MethodPost, path, body, header...)
}

const health = `{"source":"balancer","event":"health","data":{"health":"unhealthy","port":3000}}`

func TestNew(t *testing.T) {
	if _, err := ingest.New(ingest.Options{}); err == nil {
		t.Error("New without store, queue and auth succeeded")
	}
}

// What is checked first is answered first, whatever else is wrong.
func TestService_orderOfChecks(t *testing.T) {
	large := strings.Repeat(" ", hook.MaxRequestBytes+1)
	const text = "Content-Type: text/plain"
	tests := []struct {
		name, method, path, body string
		header                   []string
		want                     int
	}{
		{"no token, whatever the route", "GET", "/nowhere", large, []string{"Authorization: ", text}, 401},
		{"no token", "POST", "/events", health, []string{"Authorization: "}, 401},
		{"a wrong token", "POST", "/events", health, []string{"Authorization: Bearer x"}, 401},
		{"the wrong scope, whatever the route", "GET", "/nowhere", large, []string{"Authorization: Bearer admin", text}, 403},
		{"the wrong scope", "POST", "/events", health, []string{"Authorization: Bearer admin"}, 403},
		{"a route that is not there", "GET", "/nowhere", large, []string{text}, 404},
		{"a route with a slash too many", "POST", "/events/", health, nil, 404},
		{"a route with one name", "POST", "/events/balancer", health, nil, 404},
		{"a route with an empty name", "POST", "/events/balancer/", health, nil, 404},
		{"a route with three names", "POST", "/events/a/b/c", health, nil, 404},
		{"a route that begins alike", "POST", "/eventsx", health, nil, 404},
		{"a route in upper case", "POST", "/Events", health, nil, 404},
		{"another method", "GET", "/events", large, []string{text}, 405},
		{"another method on a path with names", "PUT", "/events/balancer/health", large, []string{text}, 405},
		{"our own source in the path", "POST", "/events/eventhooks/hook-disabled", large, []string{text}, 403},
		{"a source that is not the token's in the path", "POST", "/events/balancer/health", large, []string{"Authorization: Bearer crud", text}, 403},
		{"another type", "POST", "/events", large, []string{text}, 415},
		{"a body that is too large", "POST", "/events", large, nil, 413},
		{"a body that is too large under a bad key", "POST", "/events", large, []string{"Idempotency-Key: é"}, 413},
		{"a body that is no JSON", "POST", "/events", "x", nil, 400},
		{"everything right", "POST", "/events", health, nil, 202},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			a := b.do(tt.method, tt.path, tt.body, tt.header...)
			if a.Status != tt.want {
				t.Errorf("%s %s = %d %s; want %d", tt.method, tt.path, a.Status, a.Body, tt.want)
			}
			if tt.want != 202 && (b.queue.sends > 0 || len(b.store.claims) > 0) {
				t.Errorf("%d sends and %d claims for a request that was refused", b.queue.sends, len(b.store.claims))
			}
			if got := a.Header.Get("Allow"); (tt.want == 405) != (got == "POST") {
				t.Errorf("Allow = %q", got)
			}
			if got := a.Header.Get("WWW-Authenticate"); (tt.want == 401) != (got == "Bearer") {
				t.Errorf("WWW-Authenticate = %q", got)
			}
			if tt.want == 401 && a.Body != `{"message":"Unauthorized"}` {
				t.Errorf("body = %s", a.Body)
			}
		})
	}
}

func TestService_mediaTypes(t *testing.T) {
	for header, want := range map[string]int{
		"Content-Type: application/json":                     202,
		"Content-Type: Application/JSON ; charset=\"UTF-8\"": 202,
		"Content-Type: application/json; charset=utf-8":      202,
		"Content-Type: application/vnd.kong+json":            202,
		"Content-Type: ": 202, // what a bare client sends
		"Content-Type: application/json; charset=latin1":  415,
		"Content-Type: text/json":                         415,
		"Content-Type: application/x-www-form-urlencoded": 415,
		"Content-Type: application/jsonx":                 415,
		"Content-Type: json":                              415,
		"Content-Type: ;;":                                415,
		"Content-Encoding: gzip":                          415,
		"Content-Encoding: identity":                      202,
	} {
		t.Run(header, func(t *testing.T) {
			if a := newBench(t).post("/events", health, header); a.Status != want {
				t.Errorf("status = %d %s; want %d", a.Status, a.Body, want)
			}
		})
	}
}

// Every form in which events come in, and what becomes of it.
func TestService_forms(t *testing.T) {
	const (
		trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		later = "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-may-come"
	)
	received := noon.Truncate(time.Millisecond)
	type events = []hook.Event
	tests := []struct {
		name, path, body string
		header           []string
		want             events
	}{
		{
			"an envelope", "/events",
			` { "source" : "balancer", "event":"health", "data" : { "n" : 12345678901234567890.10e5 , "s": "a\u00e9 \" b", "l":[ 1, { } ] } } `, nil,
			events{{Source: "balancer", Event: "health", Time: received, Data: []byte(`{"n":12345678901234567890.10e5,"s":"a\u00e9 \" b","l":[1,{}]}`)}},
		},
		{
			"an envelope with everything", "/events",
			`{"source":"dao:crud","event":"create","data":{"source":"x","id":"y"},"time":"2026-11-20T01:02:03.123456789+05:30","workspace":"größer \ud83d\ude00","traceparent":"` + trace + `"}`, nil,
			events{{
				Source: "dao:crud", Event: "create", Time: time.Date(2026, 11, 19, 19, 32, 3, 123456789, time.UTC),
				Data: []byte(`{"source":"x","id":"y"}`), Workspace: "größer 😀", Traceparent: trace,
			}},
		},
		{
			"an envelope whose options are null", "/events",
			`{"source":"balancer","event":"health","data":{},"time":null,"workspace":null,"traceparent":null}`, nil,
			events{{Source: "balancer", Event: "health", Time: received, Data: []byte(`{}`)}},
		},
		{
			"what Kong's webhook handler sends: everything but source and event is data", "/events",
			`{"operation":"create", "source":"crud","entity":{"id":1},"event":"admins:create","schema":"admins","id":"kept","time":1,"workspace":[ ],"a\u0062":null}`, nil,
			events{{Source: "crud", Event: "admins:create", Time: received, Data: []byte(`{"operation":"create","entity":{"id":1},"schema":"admins","id":"kept","time":1,"workspace":[],"a\u0062":null}`)}},
		},
		{
			"what Kong's webhook handler sends, without data", "/events", `{"source":"crud","event":"admins"}`, nil,
			events{{Source: "crud", Event: "admins", Time: received, Data: []byte(`{}`)}},
		},
		{
			"names that are escaped", "/events", `{"sourc\u0065":"bal\u0061ncer","event":"health","d\u0061ta":{}}`, nil,
			events{{Source: "balancer", Event: "health", Time: received, Data: []byte(`{}`)}},
		},
		{
			"an array of both", "/events",
			`[ {"source":"balancer","event":"health","data":{"a": 1}} , {"source":"crud","event":"admins","b": 2},{"source":"balancer","event":"health","data":{}}]`, nil,
			events{
				{Source: "balancer", Event: "health", Time: received, Data: []byte(`{"a":1}`)},
				{Source: "crud", Event: "admins", Time: received, Data: []byte(`{"b":2}`)},
				{Source: "balancer", Event: "health", Time: received, Data: []byte(`{}`)},
			},
		},
		{
			"an http-log entry keeps its own source, workspace and data", "/events/http-log/log",
			`{"request":{"id":"x"}, "source":"upstream","event":"e","data":[1],"workspace":"f381e34e","time":"noon","id":"i"}`, nil,
			events{{Source: "http-log", Event: "log", Time: received, Data: []byte(`{"request":{"id":"x"},"source":"upstream","event":"e","data":[1],"workspace":"f381e34e","time":"noon","id":"i"}`)}},
		},
		{
			"a batch of http-log entries", "/events/http-log/log", `[{"a": 1},{}]`, nil,
			events{
				{Source: "http-log", Event: "log", Time: received, Data: []byte(`{"a":1}`)},
				{Source: "http-log", Event: "log", Time: received, Data: []byte(`{}`)},
			},
		},
		{
			"names in the path are decoded", "/events/dao%3Acrud/creat%65", `{}`, nil,
			events{{Source: "dao:crud", Event: "create", Time: received, Data: []byte(`{}`)}},
		},
		{
			"colons in the path may stay", "/events/crud/admins:create", `{}`, nil,
			events{{Source: "crud", Event: "admins:create", Time: received, Data: []byte(`{}`)}},
		},
		{
			"the trace of the request is the events', unless they have their own", "/events",
			`[` + health + `,{"source":"crud","event":"admins","data":{},"traceparent":"` + later + `"}]`,
			[]string{"Traceparent: " + trace},
			events{
				{Source: "balancer", Event: "health", Time: received, Data: []byte(`{"health":"unhealthy","port":3000}`), Traceparent: trace},
				{Source: "crud", Event: "admins", Time: received, Data: []byte(`{}`), Traceparent: later},
			},
		},
		{
			"a trace of the request that is none is ignored", "/events/crud/admins", `{}`,
			[]string{"Traceparent: 00-x"},
			events{{Source: "crud", Event: "admins", Time: received, Data: []byte(`{}`)}},
		},
		{
			"a ping is answered and dropped", "/events", `{"source":"kong:event_hooks","event":"ping","event_hooks":{"id":"x"}}`, nil,
			nil,
		},
		{
			"a ping among others", "/events", `[` + health + `,{"source":"kong:event_hooks","event":"ping"},` + health + `]`, nil,
			events{
				{Source: "balancer", Event: "health", Time: received, Data: []byte(`{"health":"unhealthy","port":3000}`)},
				{},
				{Source: "balancer", Event: "health", Time: received, Data: []byte(`{"health":"unhealthy","port":3000}`)},
			},
		},
		{
			"a ping by a token of other sources", "/events/kong:event_hooks/ping", `{}`,
			[]string{"Authorization: Bearer crud"},
			nil,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			b.store.register("http-log/log", false)
			a := b.post(tt.path, tt.body, tt.header...)
			if a.Status != 202 || len(a.Events) != max(len(tt.want), 1) {
				t.Fatalf("POST = %d %s; want 202 with %d events", a.Status, a.Body, len(tt.want))
			}
			ids := a.ids()
			if !slices.IsSorted(ids) || len(slices.Compact(slices.Clone(ids))) != len(ids) {
				t.Errorf("ids = %v; want rising ones", ids)
			}
			var want []hook.Event
			for i, ev := range tt.want {
				if ms, ok := eventid.Time(ids[i]); !ok || ms != noon.UnixMilli() {
					t.Errorf("id %s is of %d; want a UUIDv7 of %d", ids[i], ms, noon.UnixMilli())
				}
				if ev.Source != "" { // a dropped one
					ev.ID = ids[i]
					want = append(want, ev)
				}
			}
			if diff := gocmp.Diff(want, b.queue.events(t)); diff != "" {
				t.Errorf("events: -want +got\n%s", diff)
			}
		})
	}
}

// Every fault that an event can have: index and field are named, and nothing of
// the request is taken.
func TestService_faults(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 65) + `1` + strings.Repeat(`}`, 65)
	tests := []struct {
		name, body string
		status     int
		field      string // "" when no field is at fault
		words      string
	}{
		{"no source", `{"event":"health","data":{}}`, 400, "source", "required field missing"},
		{"no event", `{"source":"balancer","data":{}}`, 400, "event", "required field missing"},
		{"an empty object", `{}`, 400, "source", "required field missing"},
		{"a source that is a number", `{"source":1,"event":"health","data":{}}`, 400, "source", "expected a string, got a number"},
		{"a source that is null", `{"source":null,"event":"health","data":{}}`, 400, "source", "expected a string, got null"},
		{"an empty event", `{"source":"balancer","event":"","data":{}}`, 400, "event", "must not be empty"},
		{"an event that is too long", `{"source":"balancer","event":"` + strings.Repeat("x", 256) + `"}`, 400, "event", "at most 255"},
		{"a source with a slash", `{"source":"a/b","event":"x"}`, 400, "source", "slash"},
		{"a source with a control character", `{"source":"a\u0000","event":"x"}`, 400, "source", "control"},
		{"an unknown source", `{"source":"nope","event":"health","data":{}}`, 400, "source", "balancer, crud, dao:crud, oas-validation, rate-limiting-advanced"},
		{"an unknown event", `{"source":"dao:crud","event":"nope","data":{}}`, 400, "event", "it has: create, delete, update"},
		{"an event that crud cannot have", `{"source":"crud","event":"Admins","data":{}}`, 400, "event", ":create, :update or :delete"},
		{"an event of Kong's own that is no ping", `{"source":"kong:event_hooks","event":"pong"}`, 400, "source", "there is no source"},
		{"our own source", `{"source":"eventhooks","event":"hook-disabled","data":{}}`, 403, "", "eventhooks"},
		{"an id", `{"source":"balancer","event":"health","data":{},"id":"x"}`, 400, "id", "must not be sent"},
		{"an id that is null", `{"source":"balancer","event":"health","data":{},"id":null}`, 400, "id", "must not be sent"},
		{"data that is an array", `{"source":"balancer","event":"health","data":[]}`, 400, "data", "expected an object, got an array"},
		{"data that is null", `{"source":"balancer","event":"health","data":null}`, 400, "data", "expected an object, got null"},
		{"a field that nobody knows", `{"source":"balancer","event":"health","data":{},"tiem":"x"}`, 400, "tiem", "unknown field"},
		{"a field in another case", `{"source":"balancer","event":"health","data":{},"Time":"x"}`, 400, "Time", "unknown field"},
		{"a time in seconds", `{"source":"balancer","event":"health","data":{},"time":1763726400}`, 400, "time", "since 1970 are not taken"},
		{"a time in seconds in a string", `{"source":"balancer","event":"health","data":{},"time":"1763726400"}`, 400, "time", "RFC 3339"},
		{"a time without zone", `{"source":"balancer","event":"health","data":{},"time":"2026-11-21T18:00:00"}`, 400, "time", "RFC 3339"},
		{"a time with a comma", `{"source":"balancer","event":"health","data":{},"time":"2026-11-21T18:00:00,5Z"}`, 400, "time", "RFC 3339"},
		{"a time with an hour of one digit", `{"source":"balancer","event":"health","data":{},"time":"2026-11-21T8:00:00Z"}`, 400, "time", "RFC 3339"},
		{"a time with a dot and no digit", `{"source":"balancer","event":"health","data":{},"time":"2026-11-21T18:00:00.Z"}`, 400, "time", "RFC 3339"},
		{"a time in a zone of 99 hours", `{"source":"balancer","event":"health","data":{},"time":"2026-11-21T18:00:00+99:00"}`, 400, "time", "RFC 3339"},
		{"a day that does not exist", `{"source":"balancer","event":"health","data":{},"time":"2026-02-30T18:00:00Z"}`, 400, "time", "RFC 3339"},
		{"a time before the year 1", `{"source":"balancer","event":"health","data":{},"time":"0001-01-01T00:00:00+01:00"}`, 400, "time", "years 1 to 9999"},
		{"a time after the year 9999", `{"source":"balancer","event":"health","data":{},"time":"9999-12-31T23:59:59-01:00"}`, 400, "time", "years 1 to 9999"},
		{"a time that is an object", `{"source":"balancer","event":"health","data":{},"time":{}}`, 400, "time", "got an object"},
		{"a workspace that is a number", `{"source":"balancer","event":"health","data":{},"workspace":1}`, 400, "workspace", "expected a string"},
		{"a workspace that is too long", `{"source":"balancer","event":"health","data":{},"workspace":"` + strings.Repeat("é", 256) + `"}`, 400, "workspace", "at most 255"},
		{"a traceparent that is none", `{"source":"balancer","event":"health","data":{},"traceparent":"x"}`, 400, "traceparent", "W3C"},
		{"a traceparent in upper case", `{"source":"balancer","event":"health","data":{},"traceparent":"00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01"}`, 400, "traceparent", "W3C"},
		{"a traceparent of zeros", `{"source":"balancer","event":"health","data":{},"traceparent":"00-00000000000000000000000000000000-b7ad6b7169203331-01"}`, 400, "traceparent", "W3C"},
		{"a traceparent of version ff", `{"source":"balancer","event":"health","data":{},"traceparent":"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}`, 400, "traceparent", "W3C"},
		{"a traceparent that is longer than its version", `{"source":"balancer","event":"health","data":{},"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x"}`, 400, "traceparent", "W3C"},
		{"a name that is there twice", `{"source":"balancer","event":"health","data":{"x":{"a":1,"a":2}}}`, 400, "data.x.a", "appears twice"},
		{"a source that is there twice", `{"source":"balancer","source":"crud","event":"health","data":{}}`, 400, "source", "appears twice"},
		{"text that is not UTF-8", "{\"source\":\"balancer\",\"event\":\"health\",\"data\":{\"x\":\"\xff\"}}", 400, "data.x", "not UTF-8"},
		{"half a pair of surrogates", `{"source":"balancer","event":"health","data":{"x":"\ud800"}}`, 400, "data.x", ""},
		{"data that is too deep", `{"source":"balancer","event":"health","data":` + deep + `}`, 400, "data" + strings.Repeat(".a", 64), "more than 64"},
		{"a flat event that is too deep", `{"source":"balancer","event":"health","a":` + deep + `}`, 400, "a" + strings.Repeat(".a", 63), "more than 64"},
		{"too many values", `{"source":"balancer","event":"health","data":{"a":[1` + strings.Repeat(",1", 100_000) + `]}}`, 400, "data.a.99998", "more than 100000 values"},
		{"an event that is too large", `{"source":"balancer","event":"health","data":{"a":"` + strings.Repeat("x", hook.MaxEventBytes) + `"}}`, 413, "", "at most 262144 bytes"},
		{"an array in the array", `[]`, 400, "@entity", "expected an object, got an array"},
		{"a string", `"x"`, 400, "@entity", "expected an object, got a string"},
		{"null", `null`, 400, "@entity", "expected an object, got null"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			check := func(b *bench, a answer, index int) {
				t.Helper()
				if a.Status != tt.status || !strings.Contains(a.Message, tt.words) {
					t.Fatalf("POST = %d %.500s; want %d with %q", a.Status, a.Body, tt.status, tt.words)
				}
				if a.Index == nil || *a.Index != index {
					t.Errorf("index = %v in %s; want %d", a.Index, a.Body, index)
				}
				if _, ok := a.Fields[tt.field]; ok != (tt.field != "") {
					t.Errorf("fields = %v; want %q", a.Fields, tt.field)
				}
				if b.queue.sends > 0 {
					t.Errorf("something was sent: %v", b.queue.sent)
				}
			}
			if strings.HasPrefix(tt.body, "{") {
				b := newBench(t)
				check(b, b.post("/events", tt.body), 0)
			}
			// All or nothing: good ones around it do not go either.
			b := newBench(t)
			a := b.post("/events", "["+health+","+health+","+tt.body+","+health+"]")
			check(b, a, 2)
			if !strings.HasPrefix(a.Message, "event 2: ") {
				t.Errorf("message = %s; want it to name event 2", a.Message)
			}
		})
	}
}

func TestService_severalFaults(t *testing.T) {
	b := newBench(t)
	a := b.post("/events", `[`+health+`,{"source":"balancer","event":1,"data":3,"time":4,"id":5},{}]`)
	want := map[string]string{
		"event": "expected a string, got a number",
		"data":  "expected an object, got a number",
		"time":  `expected a time of RFC 3339 like "2026-11-21T18:00:00.123Z", got a number: seconds or milliseconds since 1970 are not taken`,
		"id":    "must not be sent: ids are given here, and are in the answer",
	}
	if diff := gocmp.Diff(want, a.Fields); a.Status != 400 || a.Index == nil || *a.Index != 1 || diff != "" {
		t.Errorf("POST = %d %s; -want +got\n%s", a.Status, a.Body, diff)
	}
}

func TestService_faultsOfTheBody(t *testing.T) {
	for _, path := range []string{"/events", "/events/balancer/health"} {
		for name, tt := range map[string]struct{ body, words string }{
			"nothing":               {``, "empty"},
			"blanks":                {"  \n", "empty"},
			"a number":              {`1`, "expected an object or an array of objects, got a number"},
			"a string":              {`"x"`, "got a string"},
			"null":                  {`null`, "got null"},
			"an empty array":        {`[]`, "at least one event"},
			"an array without end":  {`[` + health, "ends in the middle"},
			"an object without end": {`{`, "ends in the middle"},
			"two objects":           {health + health, "follows the end"},
			"a comma at the end":    {`[` + health + `,]`, ""},
			"lines of JSON":         {health + "\n" + health, "follows the end"},
			"a form":                {`source=balancer`, ""},
			"a byte order mark":     {"\ufeff" + health, ""},
		} {
			t.Run(path+" "+name, func(t *testing.T) {
				b := newBench(t)
				a := b.post(path, tt.body)
				if a.Status != 400 || !strings.Contains(a.Message, tt.words) || b.queue.sends > 0 {
					t.Errorf("POST = %d %s after %d sends; want 400 with %q", a.Status, a.Body, b.queue.sends, tt.words)
				}
			})
		}
	}
}

func TestService_faultsOfThePath(t *testing.T) {
	for path, field := range map[string]string{
		"/events/nope/x":                               "source",
		"/events/balancer/nope":                        "event",
		"/events/a%2Fb/x":                              "source",
		"/events/balancer/%00":                         "event",
		"/events/" + strings.Repeat("x", 256) + "/log": "source",
		"/events/%FF/log":                              "source",
	} {
		a := newBench(t).post(path, `{}`)
		if _, ok := a.Fields[field]; a.Status != 400 || !ok {
			t.Errorf("POST %s = %d %s; want 400 naming %s", path, a.Status, a.Body, field)
		}
	}
}

func TestService_limits(t *testing.T) {
	array := func(n int, event string) string { return "[" + strings.Repeat(event+",", n-1) + event + "]" }
	exactly := func(n int) string { // an event of n bytes
		frame := `{"source":"balancer","event":"health","data":{"x":""}}`
		return strings.Replace(frame, `""`, `"`+strings.Repeat("x", n-len(frame))+`"`, 1)
	}
	t.Run("a thousand events are taken, in twenty messages", func(t *testing.T) {
		b := newBench(t)
		a := b.post("/events", array(1000, health))
		if a.Status != 202 || len(a.Events) != 1000 || len(b.queue.events(t)) != 1000 || len(b.queue.sent) != 20 {
			t.Errorf("POST = %d with %d ids, %d messages", a.Status, len(a.Events), len(b.queue.sent))
		}
	})
	t.Run("one more is too many, before anything is done", func(t *testing.T) {
		b := newBench(t)
		a := b.post("/events", array(1001, health))
		if a.Status != 413 || !strings.Contains(a.Message, "1000 events") || b.queue.sends > 0 {
			t.Errorf("POST = %d %s", a.Status, a.Body)
		}
	})
	t.Run("256 KB are taken, a byte more is not", func(t *testing.T) {
		for n, want := range map[int]int{hook.MaxEventBytes: 202, hook.MaxEventBytes + 1: 413} {
			for _, body := range []string{exactly(n), " [ " + exactly(n) + " ] ", "[" + health + " ,\n" + exactly(n) + "]"} {
				b := newBench(t)
				if a := b.post("/events", body); a.Status != want || (want == 413) != (b.queue.sends == 0) {
					t.Errorf("an event of %d bytes = %d %s; want %d", n, a.Status, a.Body, want)
				}
			}
			if a := newBench(t).post("/events/balancer/health", exactly(n)); a.Status != want {
				t.Errorf("an entry of %d bytes = %d %s; want %d", n, a.Status, a.Body, want)
			}
		}
	})
	t.Run("4 MB are taken, a byte more is not", func(t *testing.T) {
		body := array(20, exactly(200<<10))
		body += strings.Repeat(" ", hook.MaxRequestBytes-len(body))
		for _, length := range []int64{0, -1} { // known, not known
			for more, want := range map[string]int{"": 202, " ": 413} {
				b := newBench(t)
				r := httptest.NewRequest("POST", "/events", strings.NewReader(body+more))
				r.Header.Set("Authorization", "Bearer ingest")
				if length < 0 {
					r.ContentLength = -1
				}
				if a := b.serve(r); a.Status != want || (want == 413) != (b.queue.sends == 0) {
					t.Errorf("%d bytes = %d %s; want %d", len(body+more), a.Status, a.Body, want)
				}
			}
		}
	})
	t.Run("a body that is shorter than it says is refused", func(t *testing.T) {
		r := httptest.NewRequest("POST", "/events", io.NopCloser(strings.NewReader(health)))
		r.Header.Set("Authorization", "Bearer ingest")
		r.ContentLength = int64(len(health)) + 1
		if a := newBench(t).serve(r); a.Status != 400 {
			t.Errorf("POST = %d %s; want 400", a.Status, a.Body)
		}
	})
	t.Run("no body is refused", func(t *testing.T) {
		r := httptest.NewRequest("POST", "/events", nil)
		r.Body = nil
		r.Header.Set("Authorization", "Bearer ingest")
		if a := newBench(t).serve(r); a.Status != 400 {
			t.Errorf("POST = %d %s; want 400", a.Status, a.Body)
		}
	})
}

func TestService_sourcesOfTokens(t *testing.T) {
	const token = "Authorization: Bearer crud"
	b := newBench(t)
	if a := b.post("/events", `[{"source":"crud","event":"admins"},{"source":"dao:crud","event":"create"}]`, token); a.Status != 202 {
		t.Errorf("events of the token's sources = %d %s", a.Status, a.Body)
	}
	sent := b.queue.sends
	a := b.post("/events", `[{"source":"crud","event":"admins"},`+health+`]`, token)
	if a.Status != 403 || a.Index == nil || *a.Index != 1 || !strings.Contains(a.Message, `"balancer"`) || !strings.Contains(a.Message, "crud, dao:crud") {
		t.Errorf("an event of another source = %d %s; want 403 naming it", a.Status, a.Body)
	}
	if a := b.post("/events/nope/x", `{}`, token); a.Status != 403 {
		t.Errorf("a source that does not exist = %d %s; want 403: the token learns nothing of other sources", a.Status, a.Body)
	}
	if b.queue.sends != sent {
		t.Error("something was sent")
	}
}

func TestService_catalogue(t *testing.T) {
	const entry = `{"request":{}}`
	t.Run("a source that was registered a moment ago is known", func(t *testing.T) {
		b := newBench(t)
		if err := b.svc.Warm(t.Context()); err != nil {
			t.Fatal(err)
		}
		if a := b.post("/events/http-log/log", entry); a.Status != 400 {
			t.Fatalf("before = %d %s; want 400", a.Status, a.Body)
		}
		b.store.register("http-log/log", false)
		if a := b.post("/events/http-log/log", entry); a.Status != 202 {
			t.Errorf("after = %d %s; want 202", a.Status, a.Body)
		}
		a := b.post("/events/http-log/entry", entry)
		if a.Status != 400 || !strings.Contains(a.Fields["event"], "it has: log") {
			t.Errorf("another event of it = %d %s; want 400 naming log", a.Status, a.Body)
		}
		if a := b.post("/events/nope/x", entry); !strings.Contains(a.Fields["source"], "http-log") {
			t.Errorf("an unknown source = %s; want it to name http-log", a.Body)
		}
	})

	t.Run("the store is asked once a minute, and once more for what is not known", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, func(o *ingest.Options) { o.Now = time.Now })
			reads := func(path string, status, want int) {
				t.Helper()
				if a := b.post(path, entry); a.Status != status || b.store.reads != want {
					t.Errorf("POST %s = %d after %d reads; want %d after %d", path, a.Status, b.store.reads, status, want)
				}
			}
			reads("/events/crud/admins", 202, 1)
			for range 10 {
				reads("/events/crud/admins", 202, 1)
			}
			reads("/events/nope/x", 400, 2)
			time.Sleep(59 * time.Second)
			reads("/events/crud/admins", 202, 2)
			time.Sleep(time.Second)
			reads("/events/crud/admins", 202, 3)
		})
	})

	t.Run("a source that was removed is unknown within a minute", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, func(o *ingest.Options) { o.Now = time.Now })
			b.store.register("http-log/log", false)
			if a := b.post("/events/http-log/log", entry); a.Status != 202 {
				t.Fatalf("before = %d %s", a.Status, a.Body)
			}
			b.store.register("http-log/log", true)
			time.Sleep(time.Minute)
			if a := b.post("/events/http-log/log", entry); a.Status != 400 {
				t.Errorf("after = %d %s; want 400", a.Status, a.Body)
			}
		})
	})

	t.Run("while the store is away, what is known is taken and the rest may come back", func(t *testing.T) {
		b := newBench(t)
		b.store.err = errors.New("table is away")
		if a := b.post("/events", health); a.Status != 202 {
			t.Errorf("a known event = %d %s; want 202", a.Status, a.Body)
		}
		a := b.post("/events/http-log/log", entry)
		if a.Status != 503 || a.Header.Get("Retry-After") != "1" || strings.Contains(a.Body, "away") {
			t.Errorf("an unknown event = %d %s; want 503 without the cause", a.Status, a.Body)
		}
		if !strings.Contains(b.log.String(), "table is away") {
			t.Errorf("log = %s; want the cause", b.log)
		}
		if err := b.svc.Warm(t.Context()); !errors.Is(err, b.store.err) {
			t.Errorf("Warm = %v; want the cause", err)
		}
	})

	t.Run("with AcceptUnknown everything is taken but what is ours, and nothing is read", func(t *testing.T) {
		b := newBench(t, func(o *ingest.Options) { o.AcceptUnknown = true })
		b.store.err = errors.New("table is away")
		for path, want := range map[string]int{
			"/events/any-thing/at%20all": 202, "/events/" + strings.Repeat("x", 200) + "/e": 202, "/events/%C3%A9/e": 202,
			"/events/eventhooks/x": 403, "/events/a%2Fb/x": 400,
		} {
			if a := b.post(path, entry); a.Status != want {
				t.Errorf("POST %s = %d %s; want %d", path, a.Status, a.Body, want)
			}
		}
		if b.store.reads > 0 {
			t.Errorf("the store was read %d times", b.store.reads)
		}
		for _, m := range b.queue.sent {
			// What SQS takes as a group.
			if len(m.Group) > 128 || strings.ContainsFunc(m.Group, func(r rune) bool { return r <= ' ' || r > '~' }) {
				t.Errorf("group = %q", m.Group)
			}
		}
	})

	t.Run("lists of names end", func(t *testing.T) {
		b := newBench(t)
		for i := range 200 {
			b.store.register(fmt.Sprintf("source-%03d/e", i), false)
		}
		if a := b.post("/events/nope/x", entry); a.Status != 400 || !strings.Contains(a.Message, " more; ") || len(a.Body) > 4000 {
			t.Errorf("POST = %d %s", a.Status, a.Body)
		}
	})
}

func TestService_groups(t *testing.T) {
	b := newBench(t)
	b.post("/events", `{"source":"dao:crud","event":"create"}`)
	if len(b.queue.sent) != 1 || b.queue.sent[0].Group != "dao:crud" {
		t.Errorf("messages = %+v; want one of the group dao:crud", b.queue.sent)
	}
}

func TestService_queueFails(t *testing.T) {
	thousand := "[" + strings.Repeat(health+",", 999) + health + "]"
	t.Run("what failed is sent again, and only that", func(t *testing.T) {
		b := newBench(t)
		var sizes []int
		b.queue.refuse = func(_ int, msgs []hook.Message) (failed []int, err error) {
			sizes = append(sizes, len(msgs))
			for i := range msgs {
				if i%2 == 1 {
					failed = append(failed, i)
				}
			}
			if failed != nil {
				err = errors.New("throttled")
			}
			return failed, err
		}
		a := b.post("/events", thousand) // 20, 10, 5, 2
		if diff := gocmp.Diff([]int{20, 10, 5, 2}, sizes); diff != "" {
			t.Errorf("sizes of sends: -want +got\n%s", diff)
		}
		if a.Status != 503 || a.Header.Get("Retry-After") != "1" || strings.Contains(a.Body, "throttled") || len(b.queue.sent) != 19 {
			t.Errorf("POST = %d %s with %d of 20 messages; want 503 with 19", a.Status, a.Body, len(b.queue.sent))
		}
		if !strings.Contains(b.log.String(), "throttled") {
			t.Errorf("log = %s; want the cause", b.log)
		}
	})
	t.Run("every event is sent once when the second try succeeds", func(t *testing.T) {
		b := newBench(t)
		b.queue.refuse = func(send int, msgs []hook.Message) ([]int, error) {
			if send == 1 {
				return []int{0, 7, 19}, errors.New("throttled")
			}
			return nil, nil
		}
		a := b.post("/events", thousand)
		var got []string
		for _, ev := range b.queue.events(t) {
			got = append(got, ev.ID)
		}
		slices.Sort(got)
		if diff := gocmp.Diff(a.ids(), got); a.Status != 202 || diff != "" {
			t.Errorf("POST = %d; ids: -answered +sent\n%s", a.Status, diff)
		}
	})
	t.Run("a queue that says nothing of which failed gets all again", func(t *testing.T) {
		b := newBench(t)
		b.queue.refuse = func(send int, msgs []hook.Message) ([]int, error) {
			if send < 4 {
				return nil, errors.New("no connection")
			}
			return nil, nil
		}
		if a := b.post("/events", health); a.Status != 202 || b.queue.sends != 4 {
			t.Errorf("POST = %d after %d sends; want 202 after 4", a.Status, b.queue.sends)
		}
	})
	t.Run("nothing is tried again when the time is over", func(t *testing.T) {
		b := newBench(t)
		ctx, cancel := context.WithCancel(t.Context())
		b.queue.refuse = func(int, []hook.Message) ([]int, error) {
			cancel()
			return []int{0}, ctx.Err()
		}
		r := httptest.NewRequestWithContext(ctx, "POST", "/events", strings.NewReader(health))
		r.Header.Set("Authorization", "Bearer ingest")
		if a := b.serve(r); a.Status != 503 || b.queue.sends != 1 {
			t.Errorf("POST = %d after %d sends; want 503 after 1", a.Status, b.queue.sends)
		}
	})
	t.Run("a table of tokens that is away is no 401", func(t *testing.T) {
		a := newBench(t).post("/events", health, "Authorization: Bearer broken")
		if a.Status != 503 || strings.Contains(a.Body, "away") {
			t.Errorf("POST = %d %s; want 503", a.Status, a.Body)
		}
	})
}

func TestService_idempotency(t *testing.T) {
	const key = "Idempotency-Key: k1"
	two := "[" + health + "," + strings.Replace(health, "unhealthy", "healthy", 1) + "]"

	t.Run("a repeat is answered with the same ids, and sent once", func(t *testing.T) {
		now := noon
		b := newBench(t, func(o *ingest.Options) { o.Now = func() time.Time { return now } })
		first := b.post("/events", two, key)
		sent := b.queue.events(t)
		now = now.Add(23 * time.Hour)
		again := b.post("/events", two, key)
		if first.Status != 202 || first.Body != again.Body || again.Status != 202 || b.queue.sends != 1 {
			t.Errorf("answers = %d %s, then %d %s after %d sends; want the same after 1", first.Status, first.Body, again.Status, again.Body, b.queue.sends)
		}
		for i, id := range first.ids() {
			if _, ok := eventid.Time(id); !ok || sent[i].ID != id || i > 0 && id <= first.ids()[i-1] {
				t.Errorf("id %d = %s, sent %s; want a rising UUIDv7", i, id, sent[i].ID)
			}
		}
		now = now.Add(2 * time.Hour)
		if later := b.post("/events", two, key); later.Status != 202 || later.Body == first.Body {
			t.Errorf("a day later = %d %s; want new ids", later.Status, later.Body)
		}
	})

	t.Run("another body, or the same at another path, is a conflict", func(t *testing.T) {
		b := newBench(t)
		if a := b.post("/events/crud/admins", `{}`, key); a.Status != 202 {
			t.Fatalf("POST = %d %s", a.Status, a.Body)
		}
		for _, other := range [][2]string{{"/events/crud/admins", `{ }`}, {"/events/crud/consumers", `{}`}, {"/events", `{"source":"crud","event":"admins"}`}} {
			if a := b.post(other[0], other[1], key); a.Status != 409 {
				t.Errorf("POST %s %s = %d %s; want 409", other[0], other[1], a.Status, a.Body)
			}
		}
		if b.queue.sends != 1 {
			t.Errorf("%d sends; want 1", b.queue.sends)
		}
	})

	t.Run("another token or another key is another request", func(t *testing.T) {
		b := newBench(t)
		seen := map[string]bool{}
		for _, header := range [][]string{{key}, {key, "Authorization: Bearer other"}, {"Idempotency-Key: k2"}, {}} {
			a := b.post("/events", health, header...)
			if a.Status != 202 || seen[a.Body] {
				t.Errorf("POST with %v = %d %s; want ids of its own", header, a.Status, a.Body)
			}
			seen[a.Body] = true
		}
	})

	t.Run("a crash between send and finish: the repeat sends the same again, and says so", func(t *testing.T) {
		now := noon
		b := newBench(t, func(o *ingest.Options) { o.Now = func() time.Time { return now } })
		b.store.finishErr = errors.New("table is away")
		first := b.post("/events", two, key)
		if first.Status != 202 {
			t.Fatalf("POST = %d %s; want 202, for the events are on the queue", first.Status, first.Body)
		}
		sent := b.queue.events(t)
		b.queue.sent = nil
		b.store.finishErr = nil
		now = now.Add(time.Hour)
		again := b.post("/events", two, key)
		if diff := gocmp.Diff(sent, b.queue.events(t)); again.Body != first.Body || diff != "" {
			t.Errorf("answers %s, then %s; events: -first +again\n%s", first.Body, again.Body, diff)
		}
		for _, m := range b.queue.sent {
			// So deliver looks for what it has done of them already.
			if got, err := message.Decode(m.Body); err != nil || !got.Again {
				t.Errorf("message %s (%v); want it marked as sent again", m.Body, err)
			}
		}
		b.queue.sent = nil
		if done := b.post("/events", two, key); done.Body != first.Body || len(b.queue.sent) != 0 {
			t.Errorf("the third = %s with %d messages; want the same answer and none", done.Body, len(b.queue.sent))
		}
	})

	t.Run("a send that failed in part: the repeat sends all under the same ids", func(t *testing.T) {
		b := newBench(t)
		thousand := "[" + strings.Repeat(health+",", 999) + health + "]"
		b.queue.refuse = func(int, []hook.Message) ([]int, error) { return []int{0}, errors.New("throttled") }
		if a := b.post("/events", thousand, key); a.Status != 503 {
			t.Fatalf("POST = %d %s; want 503", a.Status, a.Body)
		}
		got := map[string]bool{}
		for _, ev := range b.queue.events(t) {
			got[ev.ID] = true
		}
		b.queue.refuse, b.queue.sent = nil, nil
		a := b.post("/events", thousand, key)
		var sent []string
		for _, ev := range b.queue.events(t) {
			delete(got, ev.ID)
			sent = append(sent, ev.ID)
		}
		slices.Sort(sent)
		if diff := gocmp.Diff(a.ids(), sent); a.Status != 202 || diff != "" || len(got) != 0 {
			t.Errorf("POST = %d, %d ids of the first try are not among the second's; -answered +sent\n%s", a.Status, len(got), diff)
		}
	})

	t.Run("without a claim nothing is sent", func(t *testing.T) {
		b := newBench(t)
		b.store.claimErr = errors.New("table is away")
		if a := b.post("/events", two, key); a.Status != 503 || b.queue.sends > 0 {
			t.Errorf("POST = %d %s after %d sends; want 503 and none", a.Status, a.Body, b.queue.sends)
		}
	})

	t.Run("a request that is refused claims nothing", func(t *testing.T) {
		b := newBench(t)
		if a := b.post("/events", `{}`, key); a.Status != 400 || len(b.store.claims) > 0 {
			t.Errorf("POST = %d with %d claims", a.Status, len(b.store.claims))
		}
	})

	t.Run("a ping has its ids too", func(t *testing.T) {
		b := newBench(t)
		ping := `[{"source":"kong:event_hooks","event":"ping"}]`
		first, again := b.post("/events", ping, key), b.post("/events", ping, key)
		if first.Status != 202 || first.Body != again.Body || b.queue.sends > 0 {
			t.Errorf("answers = %s, then %s after %d sends", first.Body, again.Body, b.queue.sends)
		}
	})

	t.Run("ids of requests with and without key rise in the order of the requests", func(t *testing.T) {
		b := newBench(t)
		var ids []string
		for i := range 20 {
			header := []string{}
			if i%3 > 0 {
				header = append(header, fmt.Sprint("Idempotency-Key: k", i))
			}
			ids = append(ids, b.post("/events", two, header...).ids()...)
		}
		if !slices.IsSorted(ids) || len(slices.Compact(slices.Clone(ids))) != 40 {
			t.Errorf("ids = %v; want 40 rising ones", ids)
		}
	})

	t.Run("keys that are none are refused", func(t *testing.T) {
		b := newBench(t)
		for key, want := range map[string]int{
			strings.Repeat("k", 255): 202, strings.Repeat("k", 256): 400, "": 400, "é": 400, "a\tb": 400, "a b": 202,
		} {
			r := httptest.NewRequest("POST", "/events", strings.NewReader(health))
			r.Header = http.Header{"Authorization": {"Bearer ingest"}, "Idempotency-Key": {key}}
			if a := b.serve(r); a.Status != want {
				t.Errorf("key %q = %d %s; want %d", key, a.Status, a.Body, want)
			}
		}
		r := httptest.NewRequest("POST", "/events", strings.NewReader(health))
		r.Header = http.Header{"Authorization": {"Bearer ingest"}, "Idempotency-Key": {"a", "b"}}
		if a := b.serve(r); a.Status != 400 {
			t.Errorf("two keys = %d %s; want 400", a.Status, a.Body)
		}
	})
}

func TestService_concurrently(t *testing.T) {
	b := newBench(t, func(o *ingest.Options) { o.Now, o.Log = time.Now, slog.New(slog.DiscardHandler) })
	var mu sync.Mutex
	seen := map[string]int{}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 50 {
				var a answer
				switch i % 3 {
				case 0:
					a = b.post("/events", "["+health+","+health+"]")
				case 1:
					b.store.register(fmt.Sprintf("s%d-%d/e", g, i), false)
					a = b.post(fmt.Sprintf("/events/s%d-%d/e", g, i), `{}`)
				default:
					a = b.post("/events", health, fmt.Sprintf("Idempotency-Key: %d", i))
				}
				if a.Status != 202 {
					t.Errorf("POST = %d %s", a.Status, a.Body)
				}
				mu.Lock()
				for _, id := range a.ids() {
					seen[id]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	shared := 0
	for _, n := range seen {
		if n > 1 {
			shared++
		}
	}
	if want := 8*17*2 + 8*17 + 16; len(seen) != want || shared != 16 {
		t.Errorf("%d ids, %d of them answered to several; want %d and 16", len(seen), shared, want)
	}
}

// What a gateway sends is in the queue, and nowhere else.
func TestService_keepsQuiet(t *testing.T) {
	const secret = "hush-hush"
	b := newBench(t)
	b.queue.refuse = func(int, []hook.Message) ([]int, error) { return []int{0}, errors.New("throttled") }
	b.store.err = errors.New("away")
	var out strings.Builder
	for _, body := range []string{
		`{"source":"balancer","event":"health","data":{"x":"` + secret + `"}}`,
		`{"source":"balancer","event":"health","data":["` + secret + `"]}`,
		`{"source":"http-log","event":"log","data":{"x":"` + secret + `"}}`,
		`{"source":"balancer","event":"health","data":{"x":"` + secret + `",`,
		`{"source":"balancer","event":"health","data":{"x":"` + secret + `","x":"` + secret + `"}}`,
	} {
		for _, path := range []string{"/events", "/events/balancer/health"} {
			out.WriteString(b.post(path, body).Body)
			out.WriteString(b.post(path, body, "Idempotency-Key: "+secret).Body)
		}
	}
	out.WriteString(b.log.String())
	if strings.Contains(out.String(), secret) {
		t.Errorf("it shows: %s", out.String())
	}
}
