package egress_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/egress"
	"eventhooks/internal/hook"
)

// local returns a client for servers of the test on loopback.
func local(t testing.TB, o egress.Options) *egress.Client {
	t.Helper()
	o.AllowLoopback = true
	c, err := egress.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdle)
	return c
}

// raw is a server that treats each connection as serve says.
func raw(t testing.TB, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// readRequest reads one request's head and body.
func readRequest(c net.Conn) *http.Request {
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return nil
	}
	_, _ = io.Copy(io.Discard, r.Body)
	return r
}

// untilClosed blocks until the other side hangs up.
func untilClosed(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// says answers every request with the given bytes and hangs up.
func says(t testing.TB, text string) string {
	return raw(t, func(c net.Conn) {
		if readRequest(c) != nil {
			_, _ = io.WriteString(c, text)
		}
	})
}

func TestClient_Do_sendsTheRequestAsItIs(t *testing.T) {
	var got string
	addr := raw(t, func(c net.Conn) {
		b := bufio.NewReader(c)
		var head strings.Builder
		for {
			line, err := b.ReadString('\n')
			if err != nil {
				return
			}
			head.WriteString(line)
			if line == "\r\n" {
				break
			}
		}
		body := make([]byte, 13)
		_, _ = io.ReadFull(b, body)
		got = head.String() + string(body)
		_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\nX-One: a\r\nX-One: b\r\n\r\n")
	})
	answer, err := local(t, egress.Options{}).Do(t.Context(), hook.Request{
		Method: "PUT", URL: "http://" + addr + "/a%2Fb//c?x=1&y=%20#frag",
		Headers: map[string][]string{
			"Content-Type": {"application/json"}, "webhook-signature": {"v1,abc"}, "X-Many": {"1", "2"},
		},
		Body: []byte(`{"a":"<\u00>"`),
	}, egress.Call{})
	if err != nil {
		t.Fatal(err)
	}
	want := "PUT /a%2Fb//c?x=1&y=%20 HTTP/1.1\r\nHost: " + addr + "\r\nContent-Length: 13\r\nContent-Type: application/json\r\nWebhook-Signature: v1,abc\r\nX-Many: 1\r\nX-Many: 2\r\n\r\n" + `{"a":"<\u00>"`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("on the wire (-want +got):\n%s", diff)
	}
	if answer.Code != 204 || answer.IP != "127.0.0.1" || answer.Cut || len(answer.Body) != 0 || answer.Took <= 0 {
		t.Errorf("Do = %+v", answer)
	}
	if diff := cmp.Diff([]string{"a", "b"}, answer.Header.Values("X-One")); diff != "" {
		t.Error(diff)
	}
}

func TestClient_Do_keepsConnections(t *testing.T) {
	var conns atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, strings.Repeat("x", 10<<10)) // more than is kept
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	c := local(t, egress.Options{})
	for i := range 5 {
		answer, err := c.Do(t.Context(), hook.Request{Method: "POST", URL: s.URL, Body: []byte("{}")}, egress.Call{VerifyTLS: true})
		if err != nil {
			t.Fatal(err)
		}
		if answer.IP != "127.0.0.1" || !answer.Cut || len(answer.Body) != hook.MaxResponseBytes {
			t.Fatalf("call %d: IP %q, cut %t, %d bytes", i, answer.IP, answer.Cut, len(answer.Body))
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("5 calls made %d connections; want 1", n)
	}
}

func TestClient_Do_doesNotFollowRedirects(t *testing.T) {
	for _, code := range []int{301, 302, 303, 307, 308} {
		var calls atomic.Int64
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			calls.Add(1)
			w.Header().Set("Location", "http://169.254.169.254/latest/meta-data/")
			w.WriteHeader(code)
		}))
		answer, err := local(t, egress.Options{}).Do(t.Context(), hook.Request{Method: "POST", URL: s.URL, Body: []byte("{}")}, egress.Call{})
		s.Close()
		if err != nil || answer.Code != code || calls.Load() != 1 {
			t.Errorf("Do of a %d = %+v, %v after %d calls; want the redirect itself", code, answer, err, calls.Load())
		}
	}
}

func TestClient_Do_boundsWhatItReads(t *testing.T) {
	t.Run("a huge body is cut", func(t *testing.T) {
		var sent atomic.Int64
		addr := raw(t, func(c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, "HTTP/1.1 500 Oops\r\n\r\n")
			chunk := bytes.Repeat([]byte("x"), 64<<10)
			for range 10_000 {
				n, err := c.Write(chunk)
				sent.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
		answer, err := local(t, egress.Options{}).Do(t.Context(), get(addr), egress.Call{MaxBody: 1000})
		if err != nil || answer.Code != 500 || len(answer.Body) != 1000 || !answer.Cut {
			t.Fatalf("Do = %d bytes, cut %t, %v; want 1000 bytes, cut", len(answer.Body), answer.Cut, err)
		}
		if n := sent.Load(); n > 64<<20 {
			t.Errorf("the server could send %d bytes", n)
		}
	})
	t.Run("compressed data stays compressed", func(t *testing.T) {
		var bomb bytes.Buffer
		z := gzip.NewWriter(&bomb)
		_, _ = z.Write(make([]byte, 4<<20))
		_ = z.Close()
		asked := "unset"
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked = r.Header.Get("Accept-Encoding")
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb.Bytes())
		}))
		defer s.Close()
		answer, err := local(t, egress.Options{}).Do(t.Context(), hook.Request{Method: "GET", URL: s.URL}, egress.Call{MaxBody: 64 << 10})
		if err != nil || !bytes.Equal(answer.Body, bomb.Bytes()) || answer.Header.Get("Content-Encoding") != "gzip" || asked != "" {
			t.Errorf("Do = %d bytes of %d, %v; Accept-Encoding sent: %q", len(answer.Body), bomb.Len(), err, asked)
		}
	})
	t.Run("a body that ends early is cut", func(t *testing.T) {
		addr := says(t, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
		answer, err := local(t, egress.Options{}).Do(t.Context(), get(addr), egress.Call{})
		if err != nil || answer.Code != 200 || string(answer.Body) != "short" || !answer.Cut {
			t.Errorf("Do = %+v, %v; want 200 with a cut body", answer, err)
		}
	})
	t.Run("a dripping body ends with the call's time", func(t *testing.T) {
		addr := raw(t, func(c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx")
			untilClosed(c)
		})
		start := time.Now()
		answer, err := local(t, egress.Options{}).Do(t.Context(), get(addr), egress.Call{Timeout: 200 * time.Millisecond})
		if err != nil || answer.Code != 200 || string(answer.Body) != "x" || !answer.Cut {
			t.Errorf("Do = %+v, %v; want 200 with a cut body", answer, err)
		}
		if took := time.Since(start); took < 200*time.Millisecond || took > 5*time.Second {
			t.Errorf("it took %s; want 200 ms", took)
		}
	})
	for name, endless := range map[string]string{
		"headers without end":                  "X-Pad: " + strings.Repeat("x", 1000) + "\r\n",
		"one header without end":               strings.Repeat("x", 1000),
		"informational answers without end":    "HTTP/1.1 103 Early Hints\r\nLink: " + strings.Repeat("x", 1000) + "\r\n\r\n",
		"informational answers, small, no end": "HTTP/1.1 100 Continue\r\n\r\n",
	} {
		t.Run(name+" are an error", func(t *testing.T) {
			addr := raw(t, func(c net.Conn) {
				readRequest(c)
				if !strings.HasPrefix(endless, "HTTP/") {
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX: ")
				}
				for range 1_000_000 {
					if _, err := io.WriteString(c, endless); err != nil {
						return
					}
				}
			})
			answer, err := local(t, egress.Options{}).Do(t.Context(), get(addr), egress.Call{Timeout: 20 * time.Second})
			wantReason(t, err, "the answer is not valid HTTP, or its headers are larger than 64 KB")
			if answer.Code != 0 || answer.IP != "127.0.0.1" || answer.Took > 15*time.Second {
				t.Errorf("Do = %+v", answer)
			}
		})
	}
}

func wantReason(t *testing.T, err error, want string) {
	t.Helper()
	e, ok := errors.AsType[*egress.Error](err)
	if !ok {
		t.Fatalf("Do = %v; want: %s", err, want)
	}
	if e.Reason != want {
		t.Errorf("Do = %q; want %q", e.Reason, want)
	}
	if strings.Contains(err.Error(), "SECRET") {
		t.Errorf("the error shows a secret: %v", err)
	}
}

func TestClient_Do_saysInWordsWhatWentWrong(t *testing.T) {
	closed, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := closed.Addr().String()
	_ = closed.Close()
	reset := raw(t, func(c net.Conn) {
		readRequest(c)
		_ = c.(*net.TCPConn).SetLinger(0)
	})
	hanging := raw(t, untilClosed)
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = quiet
	secure.StartTLS()
	defer secure.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()

	tests := []struct {
		name, url, want string
		timeout         time.Duration
		timedOut        bool
	}{
		{name: "nobody listens", url: "http://" + refusing, want: "connection refused"},
		{name: "a reset", url: "http://" + reset, want: "connection reset"},
		{name: "an end without an answer", url: "http://" + says(t, ""), want: "connection closed without an answer"},
		{name: "an end inside the status line", url: "http://" + says(t, "HTTP/1.1 2"), want: "the answer is not valid HTTP, or its headers are larger than 64 KB"},
		{name: "an end inside the headers", url: "http://" + says(t, "HTTP/1.1 200 OK\r\nX-A: "), want: "connection closed in the middle of the answer"},
		{name: "no HTTP", url: "http://" + says(t, "SSH-2.0-SECRET\r\n\r\n"), want: "the answer is not valid HTTP, or its headers are larger than 64 KB"},
		{name: "a bad status", url: "http://" + says(t, "HTTP/1.1 SECRET OK\r\n\r\n"), want: "the answer is not valid HTTP, or its headers are larger than 64 KB"},
		{name: "a bad header", url: "http://" + says(t, "HTTP/1.1 200 OK\r\nSECRET\r\n\r\n"), want: "the answer is not valid HTTP, or its headers are larger than 64 KB"},
		{name: "no answer in time", url: "http://" + hanging, timeout: 150 * time.Millisecond, want: "no answer within 0.15 s", timedOut: true},
		{name: "no handshake in time", url: "https://" + hanging, timeout: 150 * time.Millisecond, want: "TLS: no handshake within 0.15 s", timedOut: true},
		{name: "an unknown authority", url: secure.URL, want: "TLS: certificate is signed by an unknown authority"},
		{name: "https to a port of http", url: "https://" + plain.Listener.Addr().String(), want: "TLS: the server does not speak TLS on this port"},
		{name: "https to a port of something else", url: "https://" + raw(t, func(c net.Conn) { _, _ = io.WriteString(c, "220 hello\r\n"); untilClosed(c) }), want: "TLS: the server does not speak TLS on this port"},
		{name: "an end inside the handshake", url: "https://" + raw(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1<<16)) }), want: "TLS: connection closed during the handshake"},
		{name: "another scheme", url: "ftp://" + refusing, want: "the URL is neither http nor https"},
		{name: "no host", url: "http://", want: "the URL names no host"},
		{name: "user info", url: "http://me:SECRET@" + refusing, want: "the URL carries user info"},
		{name: "no URL", url: "http://a b.example/%zz", want: "the URL is not valid"},
	}
	c := local(t, egress.Options{})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := c.Do(t.Context(), hook.Request{
				Method: "POST", URL: tt.url + "/services/SECRET?token=SECRET",
				Headers: map[string][]string{"X-Key": {"SECRET"}}, Body: []byte("SECRET"),
			}, egress.Call{Timeout: tt.timeout, VerifyTLS: true})
			wantReason(t, err, tt.want)
			if e, _ := errors.AsType[*egress.Error](err); e != nil && e.Timeout != tt.timedOut {
				t.Errorf("Timeout = %t; want %t", e.Timeout, tt.timedOut)
			}
		})
	}
	t.Run("a header that cannot be sent", func(t *testing.T) {
		_, err := c.Do(t.Context(), hook.Request{Method: "POST", URL: plain.URL, Headers: map[string][]string{"X-Key": {"SECRET\r\nX: y"}}}, egress.Call{})
		wantReason(t, err, "the request cannot be written: a header or the method is not valid")
	})
}

func TestClient_Do_verifiesCertificates(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hi") }))
	s.Config.ErrorLog = quiet
	s.StartTLS()
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	port := s.Listener.Addr().(*net.TCPAddr).Port

	c := local(t, egress.Options{RootCAs: roots})
	for range 2 { // the second time a session could be resumed
		if answer, err := c.Do(t.Context(), hook.Request{Method: "GET", URL: s.URL}, egress.Call{VerifyTLS: true}); err != nil || answer.Code != 200 {
			t.Fatalf("Do with the right roots = %+v, %v", answer, err)
		}
		c.CloseIdle()
	}
	// httptest's certificate names 127.0.0.1, ::1, example.com; localhost is another.
	other := "https://localhost:" + strconv.Itoa(port)
	_, err := c.Do(t.Context(), hook.Request{Method: "GET", URL: other + "/SECRET"}, egress.Call{VerifyTLS: true})
	if e, ok := errors.AsType[*egress.Error](err); !ok || !strings.HasPrefix(e.Reason, "TLS: certificate is for example.com") || !strings.HasSuffix(e.Reason, "not for localhost") {
		t.Errorf("Do with another name = %v", err)
	}
	if answer, err := c.Do(t.Context(), hook.Request{Method: "GET", URL: other}, egress.Call{}); err != nil || answer.Code != 200 {
		t.Errorf("Do without verification = %v", err)
	}
	// What was done without verification must not help a call that verifies.
	if _, err := c.Do(t.Context(), hook.Request{Method: "GET", URL: other}, egress.Call{VerifyTLS: true}); err == nil {
		t.Error("a call that verifies went through after one that did not")
	}
	if _, err := local(t, egress.Options{}).Do(t.Context(), hook.Request{Method: "GET", URL: s.URL}, egress.Call{VerifyTLS: true}); err == nil {
		t.Error("a call without the roots went through")
	}

	old := httptest.NewUnstartedServer(http.NotFoundHandler())
	old.Config.ErrorLog = quiet
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10} //nolint:gosec // the old server is the test
	old.StartTLS()
	defer old.Close()
	_, err = c.Do(t.Context(), hook.Request{Method: "GET", URL: old.URL}, egress.Call{})
	if e, ok := errors.AsType[*egress.Error](err); !ok || !strings.HasPrefix(e.Reason, "TLS: ") {
		t.Errorf("Do with TLS 1.1 = %v; want a TLS failure", err)
	}
}

func TestClient_Do_endsWithTheCallersContext(t *testing.T) {
	asked := make(chan struct{})
	addr := raw(t, func(c net.Conn) { readRequest(c); close(asked); untilClosed(c) })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	_, err := local(t, egress.Options{}).Do(ctx, get(addr), egress.Call{Timeout: time.Minute})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Do = %v; want the caller's own error inside", err)
	}
	wantReason(t, err, "given up: the caller had no more time")
}

func TestClient_Do_isSafeForConcurrentUse(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))
	defer s.Close()
	c := local(t, egress.Options{})
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			for range 10 {
				body := strconv.Itoa(i)
				answer, err := c.Do(t.Context(), hook.Request{Method: "POST", URL: s.URL, Body: []byte(body)}, egress.Call{VerifyTLS: i%2 == 0})
				if err != nil || string(answer.Body) != body {
					t.Errorf("Do = %+v, %v; want %s", answer, err, body)
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkPost measures one webhook's POST on a kept connection, and beside
// it what net/http alone takes for the same.
func BenchmarkPost(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer s.Close()
	body := bytes.Repeat([]byte("x"), 1024)
	b.Run("egress", func(b *testing.B) {
		c := local(b, egress.Options{})
		r := hook.Request{Method: "POST", URL: s.URL, Headers: map[string][]string{"Content-Type": {"application/json"}}, Body: body}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Do(b.Context(), r, egress.Call{VerifyTLS: true}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("net-http", func(b *testing.B) {
		c := &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
		b.ReportAllocs()
		for b.Loop() {
			resp, err := c.Post(s.URL, "application/json", bytes.NewReader(body))
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
		c.CloseIdleConnections()
	})
}
