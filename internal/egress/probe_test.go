package egress_test

import (
	"context"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/egress"
	"eventhooks/internal/hook"
)

var quiet = log.New(io.Discard, "", 0)

// at makes a probe of an address.
func at(t testing.TB, address string, p hook.Probe) hook.Probe {
	t.Helper()
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		t.Fatal(err)
	}
	p.IP, p.Port = ap.Addr().String(), int(ap.Port())
	if p.Timeout == 0 {
		p.Timeout = 5 * time.Second
	}
	return p
}

func TestClient_Probe_asksAsKongDoes(t *testing.T) {
	tests := []struct {
		name  string
		probe hook.Probe
		want  string
	}{
		{
			"a host, a path and headers",
			hook.Probe{Type: "http", Host: "web1.example.test", Path: "/status?full=1", Headers: map[string][]string{"X-Two": {"a", "b"}, "Authorization": {"Basic x"}}},
			"GET /status?full=1 HTTP/1.1\r\nHost: web1.example.test\r\nConnection: close\r\nUser-Agent: eventhooks\r\nAuthorization: Basic x\r\nX-Two: a\r\nX-Two: b\r\n\r\n",
		},
		{
			"nothing but the address",
			hook.Probe{Type: "http"},
			"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nUser-Agent: eventhooks\r\n\r\n",
		},
		{
			"headers of its own for what we would send",
			hook.Probe{Type: "http", Host: "a.example.test", Path: "/", Headers: map[string][]string{"host": {"b.example.test"}, "User-Agent": {"mine"}, "Connection": {"keep-alive"}, "Content-Length": {"5"}}},
			"GET / HTTP/1.1\r\nHost: b.example.test\r\nConnection: close\r\nUser-Agent: mine\r\n\r\n",
		},
		{
			"bytes that no request line may hold",
			hook.Probe{Type: "http", Path: "/a b\r\nX: y\x00é%20"},
			"GET /a%20b%0D%0AX:%20y%00%C3%A9%20 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nUser-Agent: eventhooks\r\n\r\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := make(chan string, 1)
			addr := raw(t, func(c net.Conn) {
				buf := make([]byte, 4096)
				n := 0
				for !strings.HasSuffix(string(buf[:n]), "\r\n\r\n") {
					k, err := c.Read(buf[n:])
					if err != nil {
						break
					}
					n += k
				}
				got <- string(buf[:n])
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n")
				untilClosed(c) // no headers, no body: the status line is enough
			})
			r := local(t, egress.Options{}).Probe(t.Context(), at(t, addr, tt.probe))
			if r.Fault != hook.FaultNone || r.Code != 200 || r.Reason != "" {
				t.Errorf("Probe = %+v; want 200", r)
			}
			if diff := cmp.Diff(tt.want, <-got); diff != "" {
				t.Errorf("on the wire (-want +got):\n%s", diff)
			}
			if r.Connect <= 0 || r.FirstByte <= 0 || r.TLS != 0 || r.Took < r.Connect+r.FirstByte {
				t.Errorf("phases %+v", r)
			}
		})
	}
}

func TestClient_Probe_judgesWhatItMet(t *testing.T) {
	closed, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := closed.Addr().String()
	_ = closed.Close()
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = quiet
	secure.StartTLS()
	defer secure.Close()
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	tlsAddr := secure.Listener.Addr().String()
	hanging := raw(t, untilClosed)
	short := 150 * time.Millisecond

	type want struct {
		Fault  hook.ProbeFault
		Code   int
		Reason string
	}
	tests := []struct {
		name  string
		addr  string
		probe hook.Probe
		want  want
	}{
		{"an answer", says(t, "HTTP/1.1 503 Service Unavailable\r\n\r\n"), hook.Probe{Type: "http"}, want{Code: 503}},
		{"a redirect is an answer", says(t, "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\n\r\n"), hook.Probe{Type: "http"}, want{Code: 302}},
		{"HTTP/1.0 without a reason", says(t, "HTTP/1.0 200\r\n\r\n"), hook.Probe{Type: "http"}, want{Code: 200}},
		{"a bare line feed", says(t, "HTTP/1.1 204 No Content\n"), hook.Probe{Type: "http"}, want{Code: 204}},
		{"an endless status line", raw(t, func(c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, "HTTP/1.1 200 ")
			for range 100_000 {
				if _, err := io.WriteString(c, strings.Repeat("x", 1000)); err != nil {
					return
				}
			}
		}), hook.Probe{Type: "http"}, want{Fault: hook.FaultHTTP, Reason: "the answer is not HTTP"}},
		{"not HTTP", says(t, "220 mail.example ESMTP\r\n"), hook.Probe{Type: "http"}, want{Fault: hook.FaultHTTP, Reason: "the answer is not HTTP"}},
		{"not HTTP and no end of line", raw(t, func(c net.Conn) { _, _ = io.WriteString(c, "hello"); untilClosed(c) }), hook.Probe{Type: "http"}, want{Fault: hook.FaultHTTP, Reason: "the answer is not HTTP"}},
		{"no number", says(t, "HTTP/1.1 OK\r\n"), hook.Probe{Type: "http"}, want{Fault: hook.FaultHTTP, Reason: "the answer is not HTTP"}},
		{"a number of four digits", says(t, "HTTP/1.1 2000 OK\r\n"), hook.Probe{Type: "http"}, want{Fault: hook.FaultHTTP, Reason: "the answer is not HTTP"}},
		{"no version", says(t, "HTTP/ 200 OK\r\n"), hook.Probe{Type: "http"}, want{Fault: hook.FaultHTTP, Reason: "the answer is not HTTP"}},
		{"an end without an answer", says(t, ""), hook.Probe{Type: "http"}, want{Fault: hook.FaultTCP, Reason: "connection closed without an answer"}},
		{"an end inside the status line", says(t, "HTTP/1.1 20"), hook.Probe{Type: "http"}, want{Fault: hook.FaultTCP, Reason: "connection closed in the middle of the answer"}},
		{"a reset", raw(t, func(c net.Conn) { readRequest(c); _ = c.(*net.TCPConn).SetLinger(0) }), hook.Probe{Type: "http"}, want{Fault: hook.FaultTCP, Reason: "connection reset"}},
		{"nobody listens", refusing, hook.Probe{Type: "http"}, want{Fault: hook.FaultTCP, Reason: "connection refused"}},
		{"nobody listens, tcp", refusing, hook.Probe{Type: "tcp"}, want{Fault: hook.FaultTCP, Reason: "connection refused"}},
		{"a silent server, tcp", hanging, hook.Probe{Type: "tcp"}, want{}},
		{"a silent server, http", hanging, hook.Probe{Type: "http", Timeout: short}, want{Fault: hook.FaultTimeout, Reason: "no answer within 0.15 s"}},
		{"a silent server, https", hanging, hook.Probe{Type: "https", Timeout: short}, want{Fault: hook.FaultTimeout, Reason: "TLS: no handshake within 0.15 s"}},
		{"a drip", raw(t, func(c net.Conn) { readRequest(c); _, _ = io.WriteString(c, "HTT"); untilClosed(c) }), hook.Probe{Type: "http", Timeout: short}, want{Fault: hook.FaultTimeout, Reason: "no answer within 0.15 s"}},
		{"https", tlsAddr, hook.Probe{Type: "https", VerifyTLS: true, Host: "example.com"}, want{Code: 404}},
		{"https by address", tlsAddr, hook.Probe{Type: "https", VerifyTLS: true}, want{Code: 404}},
		{"https with a port in the host", tlsAddr, hook.Probe{Type: "https", VerifyTLS: true, Host: "example.com:8443"}, want{Code: 404}},
		{"https, the name of the configuration wins", tlsAddr, hook.Probe{Type: "https", VerifyTLS: true, Host: "web1.example.test", SNI: "example.com"}, want{Code: 404}},
		{"https, another name", tlsAddr, hook.Probe{Type: "https", VerifyTLS: true, Host: "web1.example.test"}, want{Fault: hook.FaultTCP, Reason: "TLS: certificate is for example.com, *.example.com, 127.0.0.1 and others, not for web1.example.test"}},
		{"https, another name, not verified", tlsAddr, hook.Probe{Type: "https", Host: "web1.example.test"}, want{Code: 404}},
		{"https to a port of http", says(t, "HTTP/1.1 400 Bad Request\r\n\r\n"), hook.Probe{Type: "https"}, want{Fault: hook.FaultTCP, Reason: "TLS: connection closed during the handshake"}},
		{"a header that would break the request", hanging, hook.Probe{Type: "http", Headers: map[string][]string{"X-A": {"1\r\nX-B: 2"}}}, want{Fault: hook.FaultBlocked, Reason: "the value of header X-A holds a control character"}},
		{"a header's name that would", hanging, hook.Probe{Type: "http", Headers: map[string][]string{"X A": {"1"}}}, want{Fault: hook.FaultBlocked, Reason: "a header's name is not valid"}},
		{"a host that would", hanging, hook.Probe{Type: "http", Host: "a\r\nb"}, want{Fault: hook.FaultBlocked, Reason: "the host holds a control character"}},
	}
	c := local(t, egress.Options{RootCAs: roots})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := c.Probe(t.Context(), at(t, tt.addr, tt.probe))
			if diff := cmp.Diff(tt.want, want{r.Fault, r.Code, r.Reason}); diff != "" {
				t.Errorf("Probe (-want +got):\n%s", diff)
			}
			if tt.want.Fault == hook.FaultTimeout && (r.Took < short || r.Took > 5*time.Second) {
				t.Errorf("it took %s; want %s", r.Took, short)
			}
			if tt.probe.Type == "https" && tt.want.Code != 0 && r.TLS <= 0 {
				t.Errorf("no time of TLS in %+v", r)
			}
		})
	}
	t.Run("no address at all", func(t *testing.T) {
		for _, p := range []hook.Probe{{Type: "tcp", IP: "web1.example.test", Port: 80}, {Type: "tcp", IP: "127.0.0.1"}, {Type: "tcp", IP: "127.0.0.1", Port: 70000}} {
			if r := c.Probe(t.Context(), p); r.Fault != hook.FaultBlocked {
				t.Errorf("Probe(%+v) = %+v; want fault blocked", p, r)
			}
		}
	})
}

func TestClient_Probe_asksAgainInHTTP10(t *testing.T) {
	var versions []string
	addr := raw(t, func(c net.Conn) {
		r := readRequest(c)
		versions = append(versions, r.Proto)
		if r.Proto == "HTTP/1.1" {
			_, _ = io.WriteString(c, "HTTP/1.0 505 HTTP Version Not Supported\r\n\r\n")
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.0 200 OK\r\n\r\n")
	})
	r := local(t, egress.Options{}).Probe(t.Context(), at(t, addr, hook.Probe{Type: "http"}))
	if r.Code != 200 || strings.Join(versions, " ") != "HTTP/1.1 HTTP/1.0" {
		t.Errorf("Probe = %+v after %v; want 200 after both versions", r, versions)
	}
}

func TestClient_Probe_endsWithTheCallersContext(t *testing.T) {
	asked := make(chan struct{})
	addr := raw(t, func(c net.Conn) { readRequest(c); close(asked); untilClosed(c) })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	r := local(t, egress.Options{}).Probe(ctx, at(t, addr, hook.Probe{Type: "http", Timeout: time.Minute}))
	if r.Fault == hook.FaultNone || r.Took > 10*time.Second || ctx.Err() == nil {
		t.Errorf("Probe = %+v", r)
	}
}

// BenchmarkProbe measures one probe, and beside it a GET of net/http with a
// new connection.
func BenchmarkProbe(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	defer s.Close()
	b.Run("egress", func(b *testing.B) {
		c := local(b, egress.Options{})
		p := at(b, s.Listener.Addr().String(), hook.Probe{Type: "http", Host: "web1.example.test", Path: "/status"})
		b.ReportAllocs()
		for b.Loop() {
			if r := c.Probe(b.Context(), p); r.Code != 200 {
				b.Fatalf("Probe = %+v", r)
			}
		}
	})
	b.Run("net-http", func(b *testing.B) {
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
		b.ReportAllocs()
		for b.Loop() {
			resp, err := c.Get(s.URL + "/status")
			if err != nil {
				b.Fatal(err)
			}
			_ = resp.Body.Close()
		}
	})
}
