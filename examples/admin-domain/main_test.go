package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
)

const (
	secret  = "topsecret"
	adminID = "3f1c2a59-4b7d-4e96-bd7f-6a5b5f6c1e22"
)

// gateway stands in for the gateway's admin API.
type gateway struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	calls  []string // method, path, token
}

func newGateway(t *testing.T) *gateway {
	t.Helper()
	g := &gateway{status: http.StatusNoContent}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.calls = append(g.calls, r.Method+" "+r.URL.Path+" "+r.Header.Get("Kong-Admin-Token"))
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(g.status)
	}))
	t.Cleanup(g.Close)
	return g
}

func (g *gateway) answers(status int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.status = status
}

// taken returns the calls since the last time.
func (g *gateway) taken() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	calls := g.calls
	g.calls = nil
	return calls
}

// start runs the application against an admin API and returns its URL.
func start(t *testing.T, adminAPI string) string {
	t.Helper()
	old := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	t.Cleanup(func() { slog.SetDefault(old) })
	s, err := readSettings(env(map[string]string{"SECRET": secret, "ALLOWED_DOMAIN": "Example.com", "ADMIN_API": adminAPI, "ADMIN_TOKEN": "token-1"}))
	if err != nil {
		t.Fatal(err)
	}
	app := httptest.NewServer(newReceiver(s))
	t.Cleanup(app.Close)
	return app.URL + "/admin-created"
}

func env(m map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := m[name]; return v, ok }
}

func signature(secret, body string) string {
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte(body))
	return "sha256=" + hex.EncodeToString(m.Sum(nil))
}

func post(t *testing.T, to, body, signature string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", to, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if signature != "" {
		req.Header.Set("x-kong-signature", signature)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}

func created(id, email string) string {
	return fmt.Sprintf(`{"source":"crud","event":"admins:create","schema":"admins","operation":"create","entity":{"id":%q,"username":"u","email":%q,"status":4}}`, id, email)
}

func TestAdminCreated(t *testing.T) {
	g := newGateway(t)
	app := start(t, g.URL)
	const deleted = "DELETE /admins/" + adminID + " token-1"
	for _, c := range []struct {
		name, body string
		gateway    int
		want       int
		call       string // "" for none
	}{
		{"an admin of the domain stays", created(adminID, "jane@example.com"), 204, 200, ""},
		{"the case of letters does not matter", created(adminID, "Jane@EXAMPLE.com"), 204, 200, ""},
		{"an admin of another domain is deleted", created(adminID, "jane@example.org"), 204, 200, deleted},
		{"a domain that ends alike", created(adminID, "jane@evilexample.com"), 204, 200, deleted},
		{"a subdomain", created(adminID, "jane@sub.example.com"), 204, 200, deleted},
		{"our domain in front", created(adminID, "jane@example.com.evil.test"), 204, 200, deleted},
		{"our domain before the last at", created(adminID, "jane@example.com@evil.test"), 204, 200, deleted},
		{"a dot at the end", created(adminID, "jane@example.com."), 204, 200, deleted},
		{"a space at the end", created(adminID, "jane@example.com "), 204, 200, deleted},
		{"no name before the at", created(adminID, "@example.com"), 204, 200, deleted},
		{"no email at all", created(adminID, ""), 204, 200, deleted},
		{"a hook on all of admins", strings.Replace(created(adminID, "x@y.test"), "admins:create", "admins", 1), 204, 200, deleted},
		{"an admin that is gone", created(adminID, "x@y.test"), 404, 200, deleted},
		{"a gateway that answers with a body", created(adminID, "x@y.test"), 200, 200, deleted},
		{"a gateway in trouble", created(adminID, "x@y.test"), 500, 502, deleted},
		{"a token that is refused", created(adminID, "x@y.test"), 401, 502, deleted},
		{"a redirect is not followed", created(adminID, "x@y.test"), 307, 502, deleted},
		{"a ping", `{"source":"kong:event_hooks","event":"ping","event_hooks":{"id":"x"}}`, 204, 200, ""},
		{"an update", `{"source":"crud","event":"admins","operation":"update","entity":{"id":"` + adminID + `","email":"x@y.test"}}`, 204, 200, ""},
		{"another entity", strings.Replace(created(adminID, "x@y.test"), "admins:create", "consumers:create", 1), 204, 200, ""},
		{"another source", strings.Replace(created(adminID, "x@y.test"), "crud", "custom", 1), 204, 200, ""},
		{"an id that is a path", created("../services/3f1c2a59-4b7d-4e96-bd7f-6a", "x@y.test"), 204, 400, ""},
		{"an id of the right length that is a path", created("../../services/4e96-bd7f-6a5b5f6c1e2", "x@y.test"), 204, 400, ""},
		{"no id", created("", "x@y.test"), 204, 400, ""},
		{"no JSON", `{"source"`, 204, 400, ""},
		{"an entity that is none", `{"source":"crud","event":"admins:create","entity":"x"}`, 204, 400, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			g.answers(c.gateway)
			if got := post(t, app, c.body, signature(secret, c.body)); got != c.want {
				t.Errorf("answer %d; want %d", got, c.want)
			}
			if got := strings.Join(g.taken(), ", "); got != c.call {
				t.Errorf("the gateway got %q; want %q", got, c.call)
			}
		})
	}
}

func TestAdminCreated_signature(t *testing.T) {
	g := newGateway(t)
	app := start(t, g.URL)
	body := created(adminID, "x@y.test")
	good := signature(secret, body)
	for name, s := range map[string]string{
		"none":                        "",
		"another secret's":            signature("other", body),
		"another body's":              signature(secret, body+" "),
		"an empty secret's":           signature("", body),
		"cut short":                   good[:len(good)-2],
		"no hex":                      "sha256=zz",
		"an algorithm that is not":    "sha1=" + good[len("sha256="):],
		"without its algorithm":       good[len("sha256="):],
		"nothing after the algorithm": "sha256=",
	} {
		if got := post(t, app, body, s); got != 401 {
			t.Errorf("signature %s: answer %d; want 401", name, got)
		}
	}
	if calls := g.taken(); len(calls) > 0 {
		t.Errorf("the gateway got %q; want nothing", calls)
	}
	if got := post(t, app, body, strings.ToUpper(good[7:8])+good[7:]); got != 401 {
		t.Errorf("a signature with one character more: answer %d; want 401", got)
	}
}

func TestAdminCreated_deliveredAgain(t *testing.T) {
	g := newGateway(t)
	app := start(t, g.URL)
	body := created(adminID, "x@y.test")
	for i, c := range []struct{ gateway, want int }{{503, 502}, {204, 200}, {404, 200}} {
		g.answers(c.gateway)
		if got := post(t, app, body, signature(secret, body)); got != c.want {
			t.Errorf("delivery %d: answer %d; want %d", i+1, got, c.want)
		}
	}
	g.Close()
	if got := post(t, app, body, signature(secret, body)); got != 502 {
		t.Errorf("with the gateway away: answer %d; want 502", got)
	}
}

func TestAdminCreated_otherRequests(t *testing.T) {
	app := start(t, newGateway(t).URL)
	large := strings.Repeat("x", maxBody+1)
	if got := post(t, app, large, signature(secret, large)); got != 413 {
		t.Errorf("a body beyond the bound: answer %d; want 413", got)
	}
	if got := post(t, strings.TrimSuffix(app, "/admin-created"), "{}", signature(secret, "{}")); got != 404 {
		t.Errorf("another path: answer %d; want 404", got)
	}
	resp, err := http.Get(app)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != 405 {
		t.Errorf("GET: answer %d; want 405", resp.StatusCode)
	}
}

// TestAllowed_letters: other characters that some libraries take for ASCII
// letters are no part of our domain.
func TestAllowed_letters(t *testing.T) {
	for email, want := range map[string]bool{
		"a@kong.example":          true,
		"a@KONG.example":          true,
		"a@\u212aong.example":     false, // Kelvin sign
		"a@kong.e\u0445ample":     false, // Cyrillic ha
		"a@kong\uff0eexample":     false, // full-width dot
		"a@kong.example\x00":      false,
		"a\n@kong.example\n":      false,
		"\"a@b\"@kong.example":    true,
		"a@b.test,b@kong.example": true, // one address or two: the last domain decides
	} {
		if got := allowed(email, "kong.example"); got != want {
			t.Errorf("allowed(%q) = %v; want %v", email, got, want)
		}
	}
}

func TestReadSettings(t *testing.T) {
	_, err := readSettings(env(nil))
	for _, name := range []string{"SECRET", "ALLOWED_DOMAIN", "ADMIN_API", "ADMIN_TOKEN"} {
		if err == nil || !strings.Contains(err.Error(), name+" is not set") {
			t.Errorf("without settings: %v; want it to name %s", err, name)
		}
	}
	full := map[string]string{"SECRET": "s", "ALLOWED_DOMAIN": "@Example.com", "ADMIN_API": "https://gw.example.test/admin/", "ADMIN_TOKEN": "t"}
	s, err := readSettings(env(full))
	if err != nil || s.domain != "example.com" || s.addr != "127.0.0.1:3000" {
		t.Errorf("readSettings = %+v, %v", s, err)
	}
	want := &url.URL{Scheme: "https", Host: "gw.example.test", Path: "/admin/admins/x"}
	if got := s.adminAPI.JoinPath("admins", "x").String(); got != want.String() {
		t.Errorf("the admin's URL is %s; want %s", got, want)
	}
	for name, bad := range map[string]string{"ADMIN_API": "127.0.0.1:8001", "ALLOWED_DOMAIN": "a@b.test"} {
		m := map[string]string{}
		for k, v := range full {
			m[k] = v
		}
		m[name] = bad
		if _, err := readSettings(env(m)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("with %s=%s: %v; want it named", name, bad, err)
		}
	}
}
