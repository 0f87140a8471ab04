package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestUpstreams_help(t *testing.T) {
	out, err := once(t, "", "upstreams")
	if err != nil || !strings.Contains(out, "eventhooks upstreams [command]") || !strings.Contains(out, "import") {
		t.Errorf("upstreams = %v:\n%s\nwant its help", err, out)
	}
	t.Setenv("KONG_ADMIN_TOKEN", "token-of-kong")
	t.Setenv("EVENTHOOKS_TOKEN", "token-of-event-hooks")
	out, err = once(t, "", "upstreams", "import", "--help")
	if err != nil || !strings.Contains(out, "--dry-run") || strings.Contains(out, "token-of-") {
		t.Errorf("upstreams import --help = %v:\n%s\nwant its flags, and no token", err, out)
	}
}

func TestUpstreams_import(t *testing.T) {
	kong := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := `{"data":[],"next":null}`
		switch {
		case r.Header.Get("Kong-Admin-Token") != "token-of-kong":
			w.WriteHeader(http.StatusUnauthorized)
			body = `{"message":"Invalid RBAC credentials"}`
		case r.URL.Path == "/team/upstreams" && r.URL.Query().Get("tags") == "a,b":
			body = `{"data":[{"id":"58c8ccbb-eafb-4566-991f-2ed4f678fa70","name":"web","tags":["a","b"]},
				{"id":"58c8ccbb-eafb-4566-991f-2ed4f678fa71","name":"10.0.0.1","tags":["a","b"]}],"next":null}`
		}
		_, _ = w.Write([]byte(body))
	}))
	defer kong.Close()
	system := begin(t, "local", "--addr", "127.0.0.1:0", "--data", t.TempDir(), "--token", "token-of-event-hooks")
	url := system.find(t, `base URL +(\S+)`)
	t.Setenv("KONG_ADMIN_TOKEN", "token-of-kong")
	t.Setenv("EVENTHOOKS_URL", url)
	t.Setenv("EVENTHOOKS_TOKEN", "token-of-event-hooks")

	args := []string{"upstreams", "import", "--kong", kong.URL, "--workspace", "team", "--tags", "a,b"}
	for _, more := range [][]string{{"--dry-run"}, nil, {"--exact"}} {
		out, err := once(t, "", append(args, more...)...)
		if err == nil || !strings.Contains(err.Error(), ": 1 upstream refused; ") {
			t.Errorf("%v: error %v; want that one was refused", more, err)
		}
		if want := "web: targets: none"; !strings.Contains(out, want) || !strings.Contains(out, "refused    10.0.0.1: ") {
			t.Errorf("%v printed:\n%s\nwant %q and a refusal", more, out, want)
		}
	}
	_, err := once(t, "", append(args, "--kong-token", "another")...)
	if err == nil || !strings.Contains(err.Error(), "401: Invalid RBAC credentials") || strings.Contains(err.Error(), "another;") {
		t.Errorf("error = %v; want a 401", err)
	}
}

func TestUpstreams_mistakes(t *testing.T) {
	t.Setenv("EVENTHOOKS_TOKEN", "")
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"an unknown subcommand": {[]string{"upstreams", "export"}, `unknown command "export"`},
		"an argument":           {[]string{"upstreams", "import", "http://kong:8001"}, "unknown command"},
		"no token":              {[]string{"upstreams", "import"}, "--token"},
		"no URL":                {[]string{"upstreams", "import", "--token", "t", "--kong", "kong:8001"}, "--kong: not an http or https URL"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := once(t, "", tt.args...); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v: error %v; want one with %q", tt.args, err, tt.want)
			}
		})
	}
}
