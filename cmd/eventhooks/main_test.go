package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/sign"
)

// output is written by a command while the test reads it.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
	// wrote gets a value after each write, if nobody has taken the last one.
	wrote chan struct{}
}

func newOutput() *output { return &output{wrote: make(chan struct{}, 1)} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.wrote <- struct{}{}:
	default:
	}
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// find waits until the pattern's first group is in the output.
func (o *output) find(t *testing.T, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	timeout := time.After(20 * time.Second)
	for {
		if m := re.FindStringSubmatch(o.String()); m != nil {
			return m[1]
		}
		select {
		case <-o.wrote:
		case <-timeout:
			t.Fatalf("no %q in:\n%s", pattern, o)
		}
	}
}

// begin runs a command until the test ends.
func begin(t *testing.T, args ...string) *output {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, done := newOutput(), make(chan error, 1)
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(io.Discard)
	go func() { done <- root.ExecuteContext(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%v: %v", args, err)
		}
	})
	return out
}

// once runs a command to its end.
func once(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	out := newOutput()
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(out)
	root.SetErr(out)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func TestLocalEmitListen(t *testing.T) {
	listener := begin(t, "listen", "--addr", "127.0.0.1:0", "--secret", "topsecret", "--fail", "1")
	target := listener.find(t, `listening on (http://\S+),`)
	system := begin(t, "local", "--addr", "127.0.0.1:0", "--data", t.TempDir(), "--retry-schedule", "10ms,10ms")
	url := system.find(t, `base URL +(\S+)`)
	token := system.find(t, `token +(\S+)`)

	req, err := http.NewRequestWithContext(t.Context(), "POST", url+"/event-hooks", strings.NewReader(`{"source":"crud","event":"consumers","handler":"webhook","config":{"url":"`+target+`","secret":"topsecret"}}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("create = %d; want 201", resp.StatusCode)
	}
	listener.find(t, `(answered 503)`) // the ping
	listener.find(t, `(answered 200)`) // the ping again

	out, err := once(t, "", "emit", "--url", url, "--token", token, "--source", "crud", "--event", "consumers", "--data", `{"entity":{"username":"jane"}}`)
	if err != nil {
		t.Fatal(err)
	}
	id := strings.TrimSpace(out)
	listener.find(t, `webhook-id: (`+id+`_)`)
	listener.find(t, `(?s)webhook-id: `+id+`_.*?signature: (right)`)
	listener.find(t, `("username": "jane")`)

	t.Run("events of a file, data alone for a named event, and standard input", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "events.json")
		if err := os.WriteFile(file, []byte(`[{"source":"crud","event":"consumers","data":{"n":1}},{"source":"crud","event":"consumers","data":{"n":2}}]`), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := once(t, "", "emit", "--url", url, "--token", token, "--file", file)
		if err != nil || len(strings.Fields(out)) != 2 {
			t.Errorf("emit = %q, %v; want two ids", out, err)
		}
		out, err = once(t, `{"n":3}`, "emit", "--url", url, "--token", token, "--source", "crud", "--event", "consumers", "--file", "-")
		if err != nil || len(strings.Fields(out)) != 1 {
			t.Errorf("emit = %q, %v; want one id", out, err)
		}
		listener.find(t, `("n": 3)`)
	})
	t.Run("a key makes a repeat harmless", func(t *testing.T) {
		args := []string{"emit", "--url", url, "--token", token, "--source", "crud", "--event", "consumers", "--idempotency-key", "k1"}
		first, err := once(t, "", args...)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := once(t, "", args...); err != nil || again != first {
			t.Errorf("the repeat = %q, %v; want %q", again, err, first)
		}
	})
	t.Run("what is refused says why", func(t *testing.T) {
		_, err := once(t, "", "emit", "--url", url, "--token", token, "--source", "nothing", "--event", "e")
		if err == nil || !strings.Contains(err.Error(), "400") || !strings.Contains(err.Error(), "nothing") {
			t.Errorf("error = %v; want a 400 that names the source", err)
		}
		_, err = once(t, "", "emit", "--url", url, "--token", "wrong", "--source", "crud", "--event", "consumers")
		if err == nil || !strings.Contains(err.Error(), "401") || strings.Contains(err.Error(), "wrong") {
			t.Errorf("error = %v; want a 401 that does not repeat the token", err)
		}
	})
}

func TestMistakes(t *testing.T) {
	t.Setenv("EVENTHOOKS_TOKEN", "")
	tests := []struct {
		name string
		args []string
		want string // in the error
	}{
		{"an unknown command", []string{"emt"}, `unknown command "emt"`},
		{"an argument too many", []string{"local", "now"}, `unknown command "now"`},
		{"an unknown flag", []string{"listen", "--port", "1"}, "--port"},
		{"a schedule that is none", []string{"local", "--retry-schedule", "1s,soon"}, "--retry-schedule: "},
		{"a duration of nothing", []string{"local", "--probe-every", "0s"}, "--probe-every: "},
		{"an address of the world", []string{"local", "--addr", "0.0.0.0:8080"}, "127.0.0.1"},
		{"an address without a port", []string{"local", "--addr", "localhost"}, "port"},
		{"a visibility that no queue has", []string{"local", "--visibility", "12h"}, "visibility 12h"},
		{"a token that no header takes", []string{"local", "--token", "a b"}, "token: "},
		{"a number of failures below none", []string{"listen", "--fail", "-1"}, "--fail: -1"},
		{"a secret that is none", []string{"listen", "--secret", "whsec_!!"}, "--secret: "},
		{"a status that is none", []string{"listen", "--status", "99"}, "--status: 99"},
		{"emit without a token", []string{"emit", "--source", "s", "--event", "e"}, "--token"},
		{"emit without an event", []string{"emit", "--token", "t", "--source", "s"}, "--event"},
		{"emit with data that is no JSON", []string{"emit", "--token", "t", "--source", "s", "--event", "e", "--data", "{a:1}"}, "--data: "},
		{"emit of two things", []string{"emit", "--token", "t", "--file", "f", "--data", "{}"}, "exclude"},
		{"emit of a file that is not there", []string{"emit", "--token", "t", "--file", "/nowhere/at/all"}, "no such file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := once(t, "", tt.args...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v: error %v; want one with %q", tt.args, err, tt.want)
			}
		})
	}
}

func TestReceiver_signature(t *testing.T) {
	now := time.Now()
	body := []byte(`{"a":1}`)
	signed := func(secret string) http.Header {
		h := http.Header{}
		h.Set("webhook-id", "id")
		h.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
		h.Set("webhook-signature", sign.Standard(hook.NewSecret(secret), "id", now, body))
		h.Set("x-kong-signature", sign.Kong(hook.NewSecret(secret), hook.SignatureSHA256, body))
		return h
	}
	tests := []struct {
		name   string
		secret string
		header http.Header
		want   string
	}{
		{"signed with the secret", "topsecret", signed("topsecret"), "right"},
		{"signed with another", "topsecret", signed("other"), "WRONG"},
		{"not signed though there is a secret", "topsecret", http.Header{}, "MISSING"},
		{"signed, but no secret was given", "", signed("topsecret"), "not checked"},
		{"neither", "", http.Header{}, "none"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := newOutput()
			rc := &receiver{o: listenOptions{secret: tt.secret, status: 200}, out: out, now: func() time.Time { return now }}
			req := httptest.NewRequest("POST", "/x", bytes.NewReader(body))
			req.Header = tt.header.Clone()
			req.Header.Set("x-steering", "\x1b[2J")
			rc.ServeHTTP(httptest.NewRecorder(), req)
			if got := out.find(t, `\n  signature: (.*)`); !strings.HasPrefix(got, tt.want) {
				t.Errorf("signature: %s; want %s", got, tt.want)
			}
			if strings.Contains(out.String(), "\x1b") {
				t.Error("a control character reached the terminal")
			}
		})
	}
}
