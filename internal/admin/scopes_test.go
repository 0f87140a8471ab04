package admin_test

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"eventhooks/internal/admin"
	"eventhooks/internal/auth"
	"eventhooks/internal/hook"
	"eventhooks/internal/lambdaevent"
)

// public is what needs no token.
const public = ""

// scopes is what a token needs for each route of the service. A route that is
// not here fails the test, and so does a line without a route.
var scopes = map[string]string{
	"GET /health":       public,
	"GET /openapi.json": public,

	"GET /event-hooks":                                       hook.ScopeRead,
	"POST /event-hooks":                                      hook.ScopeAdmin,
	"GET /event-hooks/sources":                               hook.ScopeRead,
	"GET /event-hooks/sources/{source}":                      hook.ScopeRead,
	"GET /event-hooks/sources/{source}/{event}":              hook.ScopeRead,
	"PUT /event-hooks/sources/{source}/{event}":              hook.ScopeAdmin,
	"DELETE /event-hooks/sources/{source}/{event}":           hook.ScopeAdmin,
	"POST /event-hooks/render":                               hook.ScopeAdmin,
	"GET /event-hooks/{id}":                                  hook.ScopeRead,
	"PATCH /event-hooks/{id}":                                hook.ScopeAdmin,
	"PUT /event-hooks/{id}":                                  hook.ScopeAdmin,
	"DELETE /event-hooks/{id}":                               hook.ScopeAdmin,
	"POST /event-hooks/{id}/test":                            hook.ScopeAdmin,
	"GET /event-hooks/{id}/ping":                             hook.ScopeAdmin, // it sends something
	"GET /event-hooks/{id}/deliveries":                       hook.ScopeRead,
	"GET /event-hooks/{id}/deliveries/{event_id}":            hook.ScopeRead,
	"POST /event-hooks/{id}/deliveries/{event_id}/redeliver": hook.ScopeAdmin,
	"POST /event-hooks/{id}/redeliver":                       hook.ScopeAdmin,
	"GET /event-hooks/{id}/snoozes":                          hook.ScopeRead,
	"DELETE /event-hooks/{id}/snoozes/{key}":                 hook.ScopeAdmin,
	"POST /event-hooks/{id}/secret/rotate":                   hook.ScopeAdmin,

	"GET /upstreams":                                                 hook.ScopeRead,
	"POST /upstreams":                                                hook.ScopeAdmin,
	"GET /upstreams/{upstream}":                                      hook.ScopeRead,
	"PATCH /upstreams/{upstream}":                                    hook.ScopeAdmin,
	"PUT /upstreams/{upstream}":                                      hook.ScopeAdmin,
	"DELETE /upstreams/{upstream}":                                   hook.ScopeAdmin,
	"GET /upstreams/{upstream}/health":                               hook.ScopeRead,
	"GET /upstreams/{upstream}/targets":                              hook.ScopeRead,
	"POST /upstreams/{upstream}/targets":                             hook.ScopeAdmin,
	"GET /upstreams/{upstream}/targets/{target}":                     hook.ScopeRead,
	"PATCH /upstreams/{upstream}/targets/{target}":                   hook.ScopeAdmin,
	"PUT /upstreams/{upstream}/targets/{target}":                     hook.ScopeAdmin,
	"DELETE /upstreams/{upstream}/targets/{target}":                  hook.ScopeAdmin,
	"PUT /upstreams/{upstream}/targets/{target}/healthy":             hook.ScopeAdmin,
	"PUT /upstreams/{upstream}/targets/{target}/unhealthy":           hook.ScopeAdmin,
	"PUT /upstreams/{upstream}/targets/{target}/{address}/healthy":   hook.ScopeAdmin,
	"PUT /upstreams/{upstream}/targets/{target}/{address}/unhealthy": hook.ScopeAdmin,

	// Ingest's; here they are not found.
	"POST /events":                  hook.ScopeAdmin,
	"POST /events/{id}/deliveries":  hook.ScopeAdmin,
	"POST /events/{source}/{event}": hook.ScopeAdmin,
	"GET /events/{id}/deliveries":   hook.ScopeRead,

	"GET /tokens":         hook.ScopeAdmin, // it says who may do what
	"POST /tokens":        hook.ScopeAdmin,
	"DELETE /tokens/{id}": hook.ScopeAdmin,
}

// example fills in a pattern's names.
func example(pattern string) string {
	const id = "00000000-0000-4000-8000-000000000000"
	return strings.NewReplacer(
		"{id}", id, "{event_id}", id, "{key}", "MSNhL2IjYw", "{source}", "crud", "{event}", "consumers",
		"{upstream}", "x", "{target}", "y", "{address}", "10.0.0.1:80",
	).Replace(pattern)
}

// bearers are credentials, by what they are, with the scopes that they are good
// for; nil for none at all.
func bearers(s *server) map[string]struct {
	value string
	good  []string
} {
	s.t.Helper()
	const all = "admin read ingest"
	for value, tok := range map[string]hook.Token{
		"expired":       {Scopes: strings.Fields(all), ExpiresAt: clock.Unix()},
		"revoked":       {Scopes: strings.Fields(all)},
		"everything":    {Scopes: strings.Fields(all)},
		"of-sources":    {Scopes: []string{hook.ScopeIngest}, Sources: []string{"crud"}},
		"read-of-crud":  {Scopes: []string{hook.ScopeRead}, Sources: []string{"crud"}},
		"read-ingest":   {Scopes: []string{hook.ScopeRead, hook.ScopeIngest}},
		"powerless":     {},
		"unknown-scope": {Scopes: []string{"root", "*", ""}},
	} {
		tok.ID, tok.Name = auth.Hash(value), value
		s.addToken(tok)
	}
	s.must(204, "DELETE", "/tokens/"+auth.Hash("revoked"), "")
	type credential = struct {
		value string
		good  []string
	}
	none := []string(nil)
	return map[string]credential{
		"no token":                   {"", none},
		"a wrong token":              {"wrong", none},
		"a token's id":               {auth.Hash("admin-token"), none},
		"an expired token":           {"expired", none},
		"a revoked token":            {"revoked", none},
		"one of no scope":            {"powerless", []string{}},
		"one of scopes there aren't": {"unknown-scope", []string{}},
		"one of ingest":              {"ingest-token", []string{hook.ScopeIngest}},
		"one of ingest, of a source": {"of-sources", []string{hook.ScopeIngest}},
		"one of read":                {"read-token", []string{hook.ScopeRead}},
		"one of read, of a source":   {"read-of-crud", []string{hook.ScopeRead}},
		"one of read and ingest":     {"read-ingest", []string{hook.ScopeRead, hook.ScopeIngest}},
		"one of admin":               {"admin-token", []string{hook.ScopeAdmin, hook.ScopeRead}},
		"one of everything":          {"everything", []string{hook.ScopeAdmin, hook.ScopeRead, hook.ScopeIngest}},
	}
}

// locked is a server whose store, tokens aside, panics when it is touched.
func locked(t *testing.T) *server {
	return newServerOn(t, func(admin.Store) admin.Store { return struct{ admin.Store }{} })
}

// untouched is a body that nobody may read.
type untouched struct{ t *testing.T }

func (u untouched) Read([]byte) (int, error) {
	u.t.Error("the body is read")
	return 0, context.Canceled
}

// knock makes a request that is wrong in every way that comes after the doors,
// and wants it refused there.
func (s *server) knock(t *testing.T, method, path, token string, want int) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, untouched{t})
	r.ContentLength = 1 << 40
	r.Header.Set("Content-Type", "text/plain")
	r.Header.Set("If-Match", "nonsense")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	s.svc.ServeHTTP(w, r)
	if w.Code != want {
		t.Errorf("%s %s = %d: %s; want %d", method, path, w.Code, w.Body, want)
	}
	if !strings.Contains(path, "//") { // which is no path of the contract
		promised(t, method, path, w.Code, w.Body.Bytes())
	}
	if got := w.Header().Get("WWW-Authenticate"); (got == "Bearer") != (want == 401) {
		t.Errorf("%s %s = %d with WWW-Authenticate %q", method, path, w.Code, got)
	}
	if body := strings.TrimSpace(w.Body.String()); want == 401 && method != "HEAD" && body != `{"message":"Unauthorized"}` {
		t.Errorf("%s %s = 401 with %s", method, path, body)
	}
}

// TestScopes goes through all routes with all tokens: who gets past the doors.
// Who does not leaves nothing behind, and nothing is looked up for them, nor
// anything read of what they sent.
func TestScopes(t *testing.T) {
	routes := admin.Routes()
	for _, route := range routes {
		if _, ok := scopes[route]; !ok {
			t.Errorf("no line says which scope %s needs", route)
		}
	}
	for _, route := range slices.Sorted(maps.Keys(scopes)) {
		if !slices.Contains(routes, route) {
			t.Errorf("there is no route %s", route)
		}
	}
	open, shut := newServer(t), locked(t)
	tokens := bearers(open)
	for _, tok := range []string{"expired", "of-sources", "powerless", "unknown-scope", "read-of-crud", "read-ingest", "everything"} {
		r, err := open.store.Get(t.Context(), hook.KindToken, auth.Hash(tok), 0)
		if err == nil {
			_, err = shut.store.Write(t.Context(), hook.FeedNone, []hook.Change{{Record: r, Expect: hook.ExpectAny}}, nil, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	check := func(t *testing.T, method, path, scope string) {
		t.Helper()
		for name, c := range tokens {
			t.Run(name, func(t *testing.T) {
				t.Helper()
				switch {
				case scope == public, slices.Contains(c.good, scope):
					// No contract here: it has no scopes but ours, and nothing of
					// what ingest answers.
					r, w := httptest.NewRequestWithContext(t.Context(), method, path, nil), httptest.NewRecorder()
					r.Header.Set("Authorization", "Bearer "+c.value)
					open.svc.ServeHTTP(w, r)
					if w.Code == 401 || w.Code == 403 || w.Code >= 500 {
						t.Errorf("%s %s = %d: %s; want it past the doors", method, path, w.Code, w.Body)
					}
				case c.good == nil:
					shut.knock(t, method, path, c.value, 401)
				default:
					shut.knock(t, method, path, c.value, 403)
				}
			})
		}
	}
	for route, scope := range scopes {
		method, pattern, _ := strings.Cut(route, " ")
		path := example(pattern)
		t.Run(route, func(t *testing.T) { check(t, method, path, scope) })
		if method == "GET" {
			t.Run("HEAD "+pattern, func(t *testing.T) { check(t, "HEAD", path, scope) })
		}
		// A workspace before Kong's paths changes nothing; before others it
		// makes a path that there is not, whatever it was without.
		first, _, _ := strings.Cut(pattern[1:], "/")
		workspaces := []string{"/ws", "/health", "/tokens", "/events"}
		if kong := first == "event-hooks" || first == "upstreams"; !kong {
			workspaces = workspaces[:1]
			scope = hook.ScopeAdmin
			if method == "GET" {
				scope = hook.ScopeRead
			}
		}
		for _, workspace := range workspaces {
			t.Run(method+" "+workspace+pattern, func(t *testing.T) { check(t, method, workspace+path, scope) })
		}
	}
}

// The order of the doors, for methods that a path does not have and for paths
// that there are not: 401, 403, then 404 or 405.
func TestScopes_order(t *testing.T) {
	s := locked(t)
	patterns := map[string][]string{} // their methods
	for _, route := range admin.Routes() {
		method, pattern, _ := strings.Cut(route, " ")
		patterns[pattern] = append(patterns[pattern], method)
	}
	check := func(t *testing.T, method, path string, adminOnly bool, want int) {
		t.Helper()
		s.knock(t, method, path, "", 401)
		s.knock(t, method, path, "wrong", 401)
		s.knock(t, method, path, "ingest-token", 403)
		read := 403
		if (method == "GET" || method == "HEAD") && !adminOnly {
			read = want
		}
		s.knock(t, method, path, "read-token", read)
		s.knock(t, method, path, "admin-token", want)
	}
	all := []string{"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "CONNECT", "PURGE", "get"}
	for pattern, methods := range patterns {
		t.Run(pattern, func(t *testing.T) {
			adminOnly := strings.HasPrefix(pattern, "/tokens") || strings.HasSuffix(pattern, "/ping")
			path := example(pattern)
			for _, method := range all {
				if slices.Contains(methods, method) || method == "HEAD" && slices.Contains(methods, "GET") {
					continue
				}
				check(t, method, path, adminOnly, 405)
				if got := s.do(method, path, "").header.Get("Allow"); got != strings.Join(methods, ", ") {
					t.Errorf("%s %s: Allow = %q; want %v", method, path, got, methods)
				}
			}
		})
	}
	for _, path := range []string{
		"/", "/unknown", "/ws/health", "/ws/tokens", "/ws/openapi.json", "/ws/events", "/ws/ws/event-hooks", "/health/x", "/Event-Hooks",
		"/event-hooks//", "//health", "/x/../health", "/health/../tokens", "/event-hooks%2Fsources", "/tokens%00", "/health;x", "/healthz",
	} {
		t.Run(path, func(t *testing.T) {
			for _, method := range all {
				check(t, method, path, false, 404)
			}
		})
	}
}

// HEAD is GET without its body.
func TestHEAD(t *testing.T) {
	s := newServer(t)
	s.must(200, "GET", "/event-hooks", "") // the token is used from here on
	for route := range scopes {
		method, pattern, _ := strings.Cut(route, " ")
		if method != "GET" || strings.HasSuffix(pattern, "/ping") {
			continue
		}
		get, head := s.do("GET", example(pattern), ""), s.do("HEAD", example(pattern), "")
		if head.status != get.status || len(head.body) != 0 || !maps.EqualFunc(head.header, get.header, slices.Equal) {
			t.Errorf("HEAD %s = %d with %d bytes and %v; want %d without, and %v", pattern, head.status, len(head.body), head.header, get.status, get.header)
		}
	}
}

// The admin function as Lambda calls it: who may invoke it directly needs no
// token and gets one, which no HTTP request brings about.
func TestScopes_directInvoke(t *testing.T) {
	s := newServer(t)
	invoke := lambdaevent.Admin(s.svc, s.svc.MintToken, nil)
	tokens := func() int { return len(s.must(200, "GET", "/tokens", "")["data"].([]any)) }
	request := func(token, create string) json.RawMessage {
		ev := events.APIGatewayV2HTTPRequest{
			Version: "2.0", RouteKey: "$default", RawPath: "/tokens", Body: create,
			Headers: map[string]string{"content-type": "application/json", "create_token": create},
		}
		if token != "" {
			ev.Headers["authorization"] = "Bearer " + token
		}
		ev.RequestContext.HTTP.Method = "POST"
		raw, err := json.Marshal(ev)
		if err != nil {
			t.Fatal(err)
		}
		// As no API Gateway writes it.
		return json.RawMessage(`{"create_token":` + create + `,` + string(raw[1:]))
	}
	const create = `{"name":"first","scopes":["admin"]}`
	before := tokens()
	for token, want := range map[string]int{"": 401, "wrong": 401, "ingest-token": 403, "read-token": 403} {
		out, err := invoke(t.Context(), request(token, create))
		if resp, ok := out.(events.APIGatewayV2HTTPResponse); err != nil || !ok || resp.StatusCode != want {
			t.Errorf("an HTTP request with %q = %+v, %v; want %d", token, out, err, want)
		}
	}
	if n := tokens(); n != before {
		t.Errorf("%d tokens; want %d: one was minted", n, before)
	}
	out, err := invoke(t.Context(), json.RawMessage(`{"create_token":`+create+`}`))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	var minted struct{ Token string }
	if err := json.Unmarshal(raw, &minted); err != nil || minted.Token == "" {
		t.Fatalf("a direct invoke = %s, %v; want a token", raw, err)
	}
	s.must(http.StatusOK, "GET", "/tokens", "", "Authorization", "Bearer "+minted.Token)
}
