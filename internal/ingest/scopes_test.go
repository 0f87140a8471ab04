package ingest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"eventhooks/internal/auth"
	"eventhooks/internal/hook"
	"eventhooks/internal/ingest"
	"eventhooks/internal/lambdaevent"
	"eventhooks/internal/record"
)

// table is a table of tokens, by id.
type table map[string]hook.Token

func (t table) Get(_ context.Context, kind, id string, _ int64) (hook.Record, error) {
	tok, ok := t[id]
	if kind != hook.KindToken || !ok {
		return hook.Record{}, hook.ErrNotFound
	}
	return record.Token(tok)
}

func (table) NoteTokenUse(context.Context, hook.TokenUse) error { return nil }

// posts is what each path of the service takes: a path that fits, and a body
// with an event of the source crud. A path that is not here fails the test, and
// so does a line without a path.
var posts = map[string]struct{ path, body string }{
	"/events":                  {"/events", `{"source":"crud","event":"consumers","data":{}}`},
	"/events/{source}/{event}": {"/events/crud/consumers", `{}`},
}

// credentials are by what they are; got is what an event of the source crud gets
// with them.
var credentials = map[string]struct {
	value string
	token *hook.Token // as it is in the table; nil: it is not
	got   int
}{
	"no token":         {"", nil, 401},
	"a wrong token":    {"wrong", nil, 401},
	"a revoked token":  {"revoked", nil, 401},
	"a token's id":     {auth.Hash("ingest"), nil, 401},
	"an expired token": {"expired", &hook.Token{Scopes: []string{hook.ScopeIngest}, ExpiresAt: noon.Unix()}, 401},
	"one of no scope":  {"powerless", &hook.Token{}, 403},
	"one of admin":     {"admin", &hook.Token{Scopes: []string{hook.ScopeAdmin}}, 403},
	"one of read":      {"read", &hook.Token{Scopes: []string{hook.ScopeRead}}, 403},
	"one of admin and read, of its source": {
		"reader", &hook.Token{Scopes: []string{hook.ScopeAdmin, hook.ScopeRead}, Sources: []string{"crud"}}, 403,
	},
	"one of another source":     {"other", &hook.Token{Scopes: []string{hook.ScopeIngest}, Sources: []string{"balancer"}}, 403},
	"one of a source like it":   {"like", &hook.Token{Scopes: []string{hook.ScopeIngest}, Sources: []string{"CRUD", "cru", "crud ", "*", ""}}, 403},
	"one of its source":         {"its", &hook.Token{Scopes: []string{hook.ScopeIngest}, Sources: []string{"balancer", "crud"}}, 202},
	"one of every source":       {"every", &hook.Token{Scopes: []string{hook.ScopeIngest}}, 202},
	"one of everything":         {"all", &hook.Token{Scopes: []string{hook.ScopeIngest, hook.ScopeAdmin, hook.ScopeRead}}, 202},
	"one that ends in a second": {"ending", &hook.Token{Scopes: []string{hook.ScopeIngest}, ExpiresAt: noon.Unix() + 1}, 202},
}

// doors is a service with those tokens; without tables and queue, which panic
// when they are touched, if it is shut.
func doors(t *testing.T, shut bool) *bench {
	t.Helper()
	tokens := table{}
	for _, c := range credentials {
		if c.token != nil {
			tok := *c.token
			tok.ID = auth.Hash(c.value)
			tokens[tok.ID] = tok
		}
	}
	return newBench(t, func(o *ingest.Options) {
		o.Auth = auth.New(auth.Options{Store: tokens, Now: func() time.Time { return noon }})
		if shut {
			o.Store, o.Queue = struct{ ingest.Store }{}, struct{ ingest.Queue }{}
		}
	})
}

// untouched is a body that nobody may read.
type untouched struct{ t *testing.T }

func (u untouched) Read([]byte) (int, error) {
	u.t.Error("the body is read")
	return 0, context.Canceled
}

// knock makes a request that is wrong in every way that comes after the doors,
// and wants it refused there.
func (b *bench) knock(t *testing.T, method, path, token string, want int) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, untouched{t})
	r.ContentLength = 1 << 40
	r.Header.Set("Content-Type", "text/plain")
	r.Header.Set("Idempotency-Key", "\u00e9")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	b.svc.ServeHTTP(w, r)
	if w.Code != want {
		t.Errorf("%s %s = %d %s; want %d", method, path, w.Code, w.Body, want)
	}
	if got := w.Header().Get("WWW-Authenticate"); (got == "Bearer") != (want == 401) {
		t.Errorf("%s %s = %d with WWW-Authenticate %q", method, path, w.Code, got)
	}
	if got := w.Header().Get("Allow"); (got == "POST") != (want == 405) {
		t.Errorf("%s %s = %d with Allow %q", method, path, w.Code, got)
	}
	if want == 401 && w.Body.String() != `{"message":"Unauthorized"}` {
		t.Errorf("%s %s = 401 with %s", method, path, w.Body)
	}
}

// Who gets an event in, by every path and with every token.
func TestService_scopes(t *testing.T) {
	for _, pattern := range ingest.Patterns() {
		if _, ok := posts[pattern]; !ok {
			t.Errorf("no line says what may be posted to %s", pattern)
		}
	}
	for pattern, post := range posts {
		if !slices.Contains(ingest.Patterns(), pattern) {
			t.Errorf("there is no path %s", pattern)
		}
		for name, c := range credentials {
			t.Run(pattern+" with "+name, func(t *testing.T) {
				b := doors(t, false)
				got := b.post(post.path, post.body, "Authorization: Bearer "+c.value)
				if got.Status != c.got {
					t.Errorf("POST %s = %d %s; want %d", post.path, got.Status, got.Body, c.got)
				}
				if taken := len(b.queue.sent) > 0; taken != (c.got == 202) {
					t.Errorf("an event is on the queue: %v, after %d", taken, got.Status)
				}
				// Of a path that names the source all is known before the body.
				scope := c.token != nil && slices.Contains(c.token.Scopes, hook.ScopeIngest)
				if c.got != 202 && (pattern != "/events" || !scope) {
					doors(t, true).knock(t, "POST", post.path, c.value, c.got)
				}
			})
		}
	}
}

// The order of the doors, for methods that a path does not have and for paths
// that there are not: 401, 403, then 404 or 405.
func TestService_orderOfDoors(t *testing.T) {
	b := doors(t, true)
	check := func(t *testing.T, method, path string, want int) {
		t.Helper()
		for _, c := range credentials {
			if c.got == 401 {
				b.knock(t, method, path, c.value, 401)
			}
		}
		for _, value := range []string{"powerless", "admin", "read", "reader"} {
			b.knock(t, method, path, value, 403)
		}
		for _, value := range []string{"every", "all", "its", "other"} {
			b.knock(t, method, path, value, want)
		}
	}
	methods := []string{"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "PUT", "TRACE", "PURGE", "post"}
	for _, post := range posts {
		for _, method := range methods {
			t.Run(method+" "+post.path, func(t *testing.T) { check(t, method, post.path, 405) })
		}
	}
	for _, path := range []string{
		"/", "/event-hooks", "/tokens", "/health", "/openapi.json", "/ws/events", "/ws/events/crud/consumers", "/events/", "/events//",
		"/events/crud", "/events/crud/", "/events/crud/consumers/", "/events/crud/consumers/x", "/Events", "/events;x", "//events", "/x/../events",
	} {
		for _, method := range append([]string{"POST"}, methods...) {
			t.Run(method+" "+path, func(t *testing.T) { check(t, method, path, 404) })
		}
	}
}

// The function as Lambda calls it mints nothing, however it is invoked.
func TestService_directInvoke(t *testing.T) {
	invoke := lambdaevent.HTTP(doors(t, true).svc)
	const create = `{"name":"x","scopes":["ingest"]}`
	for name, raw := range map[string]string{
		"as admin is":          `{"create_token":` + create + `}`,
		"as by a schedule":     `{}`,
		"with half a request":  `{"version":"2.0","create_token":` + create + `}`,
		"with another version": `{"version":"1.0","httpMethod":"POST","path":"/events","requestContext":{"http":{"method":"POST"}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			var ev events.APIGatewayV2HTTPRequest
			if err := json.Unmarshal([]byte(raw), &ev); err != nil {
				t.Fatal(err)
			}
			if out, err := invoke(t.Context(), ev); err == nil {
				t.Errorf("answer = %+v; want an error", out)
			}
		})
	}
	raw := fmt.Sprintf(`{"create_token":%s,"version":"2.0","rawPath":"/events","body":%q,"requestContext":{"http":{"method":"POST"}}}`, create, create)
	var ev events.APIGatewayV2HTTPRequest
	if err := json.Unmarshal([]byte(raw), &ev); err != nil {
		t.Fatal(err)
	}
	if out, err := invoke(t.Context(), ev); err != nil || out.StatusCode != http.StatusUnauthorized || strings.Contains(out.Body, "token") {
		t.Errorf("a request without a token = %+v, %v; want 401", out, err)
	}
}
