package local_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"eventhooks/internal/local"
)

func options(t *testing.T) local.Options {
	return local.Options{Addr: "127.0.0.1:0", Dir: t.TempDir(), Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
}

func start(t *testing.T, o local.Options) *local.System {
	t.Helper()
	s, err := local.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func status(t *testing.T, method, url, token, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestStart(t *testing.T) {
	t.Run("it is ready when it returns, and health needs no token", func(t *testing.T) {
		s := start(t, options(t))
		if code, body := status(t, "GET", s.URL()+"/health", "", ""); code != 200 {
			t.Errorf("GET /health = %d %s; want 200", code, body)
		}
	})
	t.Run("a given token has every scope, and no other has any", func(t *testing.T) {
		o := options(t)
		o.Token = "given"
		s := start(t, o)
		if s.Token() != "given" {
			t.Errorf("Token = %q; want the given one", s.Token())
		}
		for _, r := range []struct {
			method, path, body string
			want               int
		}{
			{"GET", "/event-hooks", "", 200},
			{"POST", "/tokens", `{"name":"t","scopes":["ingest"]}`, 201},
			{"POST", "/events", `{"source":"crud","event":"consumers","data":{}}`, 202},
		} {
			if code, body := status(t, r.method, s.URL()+r.path, "given", r.body); code != r.want {
				t.Errorf("%s %s = %d %s; want %d", r.method, r.path, code, body, r.want)
			}
			if code, _ := status(t, r.method, s.URL()+r.path, "", r.body); code != 401 {
				t.Errorf("%s %s without a token = %d; want 401", r.method, r.path, code)
			}
		}
	})
	t.Run("a made token stays the same on the same data, and its file is the owner's", func(t *testing.T) {
		o := options(t)
		s, err := local.Start(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		first := s.Token()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(o.Dir, "token"))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("mode of the token's file = %v; want 0600", info.Mode().Perm())
		}
		if again := start(t, o).Token(); again != first {
			t.Error("another token after a restart")
		}
	})
	t.Run("data in use by another is an error that says so", func(t *testing.T) {
		o := options(t)
		start(t, o)
		if _, err := local.Start(t.Context(), o); err == nil || !strings.Contains(err.Error(), "another process is using it") {
			t.Errorf("error = %v; want that another process is using it", err)
		}
	})
	t.Run("a temporary directory is gone after Close", func(t *testing.T) {
		o := options(t)
		o.Dir = ""
		s, err := local.Start(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		dir := s.Dir()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", dir, err)
		}
	})
	t.Run("only this machine is served", func(t *testing.T) {
		for _, addr := range []string{"0.0.0.0:0", ":0", "example.test:80", "10.0.0.1:80"} {
			o := options(t)
			o.Addr = addr
			if s, err := local.Start(t.Context(), o); err == nil {
				s.Close()
				t.Errorf("Addr %q was taken", addr)
			}
		}
	})
}

func TestEgress(t *testing.T) {
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "here") }))
	defer receiver.Close()
	try := func(t *testing.T, s *local.System, url string) string {
		code, body := status(t, "POST", s.URL()+"/event-hooks", s.Token(), `{"source":"crud","event":"consumers","handler":"webhook-custom","config":{"method":"GET","url":"`+url+`"}}`)
		if code != 201 {
			t.Fatalf("create = %d %s", code, body)
		}
		id := body[strings.Index(body, `"id":"`)+6:][:36]
		_, body = status(t, "POST", s.URL()+"/event-hooks/"+id+"/test", s.Token(), `{}`)
		return body
	}
	t.Run("loopback may be called", func(t *testing.T) {
		if got := try(t, start(t, options(t)), receiver.URL); !strings.Contains(got, "here") {
			t.Errorf("test = %s; want the receiver's answer", got)
		}
	})
	t.Run("but not local mode itself", func(t *testing.T) {
		s := start(t, options(t))
		if got := try(t, s, s.URL()+"/health"); strings.Contains(got, "status\":\"ok") || !strings.Contains(got, "error") {
			t.Errorf("test = %s; want that it is refused", got)
		}
	})
	t.Run("and nothing of it with DenyPrivate", func(t *testing.T) {
		o := options(t)
		o.DenyPrivate = true
		if got := try(t, start(t, o), receiver.URL); strings.Contains(got, "here") || !strings.Contains(got, "error") {
			t.Errorf("test = %s; want that it is refused", got)
		}
	})
}
