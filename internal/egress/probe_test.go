package egress_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/egress"
	"eventhooks/internal/hook"
)

// met is what a probe's result says, times apart.
type met struct {
	Fault       hook.ProbeFault
	Code        int
	Serving     int
	Reason      string
	Phases      string // those that took time
	Certificate bool   // the end of one is told
}

func whatItMet(r hook.ProbeResult) met {
	var phases []string
	for _, p := range []struct {
		name string
		took time.Duration
	}{{"connect", r.Connect}, {"tls", r.TLS}, {"answer", r.FirstByte}} {
		if p.took > 0 {
			phases = append(phases, p.name)
		}
	}
	return met{r.Fault, r.Code, r.Serving, r.Reason, strings.Join(phases, " "), r.CertificateMS != 0}
}

// refusing is an address where nobody listens, and nobody can begin to: it is
// the client's end of a connection.
func refusing(t testing.TB) string {
	t.Helper()
	conn, err := net.Dial("tcp4", raw(t, untilClosed))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.LocalAddr().String()
}

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
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = quiet
	secure.StartTLS()
	defer secure.Close()
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	tlsAddr := secure.Listener.Addr().String()
	nobody := refusing(t)
	hanging := raw(t, untilClosed)
	short := 150 * time.Millisecond
	const connected, answered, securely = "connect", "connect answer", "connect tls answer"

	tests := []struct {
		name  string
		addr  string
		probe hook.Probe
		want  met
	}{
		{"an answer", says(t, "HTTP/1.1 503 Service Unavailable\r\n\r\n"), hook.Probe{Type: "http"}, met{Code: 503, Phases: answered}},
		{"a redirect is an answer", says(t, "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\n\r\n"), hook.Probe{Type: "http"}, met{Code: 302, Phases: answered}},
		{"a status that nobody knows is the caller's to judge", says(t, "HTTP/1.1 799 \r\n\r\n"), hook.Probe{Type: "http"}, met{Code: 799, Phases: answered}},
		{"HTTP/1.0 without a reason", says(t, "HTTP/1.0 200\r\n\r\n"), hook.Probe{Type: "http"}, met{Code: 200, Phases: answered}},
		{"a bare line feed", says(t, "HTTP/1.1 204 No Content\n"), hook.Probe{Type: "http"}, met{Code: 204, Phases: answered}},
		{"HTTP/0.9", says(t, "<html>hello</html>\n"), hook.Probe{Type: "http"}, met{Fault: hook.FaultHTTP, Reason: "the answer is not HTTP", Phases: answered}},
		{"not HTTP", says(t, "220 mail.example ESMTP\r\n"), hook.Probe{Type: "http"}, met{Fault: hook.FaultHTTP, Reason: "the answer is not HTTP", Phases: answered}},
		{"not HTTP and no end of line", raw(t, func(c net.Conn) { _, _ = io.WriteString(c, "hello"); untilClosed(c) }), hook.Probe{Type: "http"}, met{Fault: hook.FaultHTTP, Reason: "the answer is not HTTP", Phases: answered}},
		{"no number", says(t, "HTTP/1.1 OK\r\n"), hook.Probe{Type: "http"}, met{Fault: hook.FaultHTTP, Reason: "the answer is not HTTP", Phases: answered}},
		{"a number of four digits", says(t, "HTTP/1.1 2000 OK\r\n"), hook.Probe{Type: "http"}, met{Fault: hook.FaultHTTP, Reason: "the answer is not HTTP", Phases: answered}},
		{"no version", says(t, "HTTP/ 200 OK\r\n"), hook.Probe{Type: "http"}, met{Fault: hook.FaultHTTP, Reason: "the answer is not HTTP", Phases: answered}},
		{"HTTP/2", says(t, string(frame(frameSettings, 0, 0))), hook.Probe{Type: "http"}, met{Fault: hook.FaultHTTP, Reason: "the answer is not HTTP", Phases: answered}},
		{"an end without an answer", says(t, ""), hook.Probe{Type: "http"}, met{Fault: hook.FaultTCP, Reason: "connection closed without an answer", Phases: connected}},
		{"an end inside the status line", says(t, "HTTP/1.1 20"), hook.Probe{Type: "http"}, met{Fault: hook.FaultTCP, Reason: "connection closed in the middle of the answer", Phases: answered}},
		{"a reset", raw(t, func(c net.Conn) { readRequest(c); _ = c.(*net.TCPConn).SetLinger(0) }), hook.Probe{Type: "http"}, met{Fault: hook.FaultTCP, Reason: "connection reset", Phases: connected}},
		{"nobody listens", nobody, hook.Probe{Type: "http"}, met{Fault: hook.FaultTCP, Reason: "connection refused"}},
		{"nobody listens, https", nobody, hook.Probe{Type: "https"}, met{Fault: hook.FaultTCP, Reason: "connection refused"}},
		{"nobody listens, tcp", nobody, hook.Probe{Type: "tcp"}, met{Fault: hook.FaultTCP, Reason: "connection refused"}},
		{"a silent server, tcp", hanging, hook.Probe{Type: "tcp"}, met{Phases: connected}},
		{"a silent server, http", hanging, hook.Probe{Type: "http", Timeout: short}, met{Fault: hook.FaultTimeout, Reason: "no answer within 0.15 s", Phases: connected}},
		{"a silent server, https", hanging, hook.Probe{Type: "https", Timeout: short}, met{Fault: hook.FaultTimeout, Reason: "TLS: no handshake within 0.15 s", Phases: connected}},
		{"a handshake that ends amid", raw(t, func(c net.Conn) {
			_, _ = c.Read(make([]byte, 5))
			_, _ = c.Write([]byte{22, 3, 3, 1, 0, 2})
			untilClosed(c)
		}), hook.Probe{Type: "https", Timeout: short}, met{Fault: hook.FaultTimeout, Reason: "TLS: no handshake within 0.15 s", Phases: connected}},
		{"silence after the handshake", secured(t, nil, untilClosed), hook.Probe{Type: "https", Timeout: short}, met{Fault: hook.FaultTimeout, Reason: "no answer within 0.15 s", Phases: "connect tls", Certificate: true}},
		{"a status line that stops", raw(t, func(c net.Conn) { readRequest(c); _, _ = io.WriteString(c, "HTT"); untilClosed(c) }), hook.Probe{Type: "http", Timeout: short}, met{Fault: hook.FaultTimeout, Reason: "no answer within 0.15 s", Phases: answered}},
		{"a status line that drips", raw(t, func(c net.Conn) {
			readRequest(c)
			const line = "HTTP/1.1 200 OK and more of it than anybody waits for"
			for i := range line {
				<-time.After(20 * time.Millisecond)
				if _, err := io.WriteString(c, line[i:i+1]); err != nil {
					return
				}
			}
		}), hook.Probe{Type: "http", Timeout: short}, met{Fault: hook.FaultTimeout, Reason: "no answer within 0.15 s", Phases: answered}},
		{"https", tlsAddr, hook.Probe{Type: "https", VerifyTLS: true, Host: "example.com"}, met{Code: 404, Phases: securely, Certificate: true}},
		{"https by address", tlsAddr, hook.Probe{Type: "https", VerifyTLS: true}, met{Code: 404, Phases: securely, Certificate: true}},
		{"https with a port in the host", tlsAddr, hook.Probe{Type: "https", VerifyTLS: true, Host: "example.com:8443"}, met{Code: 404, Phases: securely, Certificate: true}},
		{"https, the name of the configuration wins", tlsAddr, hook.Probe{Type: "https", VerifyTLS: true, Host: "web1.example.test", SNI: "example.com"}, met{Code: 404, Phases: securely, Certificate: true}},
		{"https, the configuration names another", tlsAddr, hook.Probe{Type: "https", VerifyTLS: true, Host: "example.com", SNI: "web1.example.test"}, met{Fault: hook.FaultTCP, Reason: "TLS: certificate is for example.com, *.example.com, 127.0.0.1 and others, not for web1.example.test", Phases: connected, Certificate: true}},
		{"https, another name", tlsAddr, hook.Probe{Type: "https", VerifyTLS: true, Host: "web1.example.test"}, met{Fault: hook.FaultTCP, Reason: "TLS: certificate is for example.com, *.example.com, 127.0.0.1 and others, not for web1.example.test", Phases: connected, Certificate: true}},
		{"https, another name, not verified", tlsAddr, hook.Probe{Type: "https", Host: "web1.example.test"}, met{Code: 404, Phases: securely, Certificate: true}},
		{"https to a port of http", says(t, "HTTP/1.1 400 Bad Request\r\n\r\n"), hook.Probe{Type: "https"}, met{Fault: hook.FaultTCP, Reason: "TLS: connection closed during the handshake", Phases: connected}},
		{"https to a server that wants a certificate, TLS 1.2", secured(t, &tls.Config{MaxVersion: tls.VersionTLS12, ClientAuth: tls.RequireAnyClientCert}, untilClosed), hook.Probe{Type: "https"}, met{Fault: hook.FaultTCP, Reason: "TLS: the server refuses the handshake (handshake failure)", Phases: connected, Certificate: true}},
		{"https to a server that wants a certificate, TLS 1.3", secured(t, &tls.Config{ClientAuth: tls.RequireAnyClientCert}, untilClosed), hook.Probe{Type: "https"}, met{Fault: hook.FaultTCP, Reason: "TLS: the server ends the session (certificate required)", Phases: "connect tls", Certificate: true}},
		{"https to a server of TLS 1.1", secured(t, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, untilClosed), hook.Probe{Type: "https"}, met{Fault: hook.FaultTCP, Reason: "TLS: the server refuses the handshake (protocol version not supported)", Phases: connected}},
		{"a header that would break the request", hanging, hook.Probe{Type: "http", Headers: map[string][]string{"X-A": {"1\r\nX-B: 2"}}}, met{Fault: hook.FaultBlocked, Reason: "the value of header X-A holds a control character"}},
		{"a header's name that would", hanging, hook.Probe{Type: "http", Headers: map[string][]string{"X A": {"1"}}}, met{Fault: hook.FaultBlocked, Reason: "a header's name is not valid"}},
		{"a host that would", hanging, hook.Probe{Type: "http", Host: "a\r\nb"}, met{Fault: hook.FaultBlocked, Reason: "the host holds a control character"}},
		{"a type that nobody knows", hanging, hook.Probe{Type: "icmp"}, met{Fault: hook.FaultBlocked, Reason: "nobody knows how to probe this type"}},
	}
	c := local(t, egress.Options{RootCAs: roots})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := c.Probe(t.Context(), at(t, tt.addr, tt.probe))
			if diff := cmp.Diff(tt.want, whatItMet(r)); diff != "" {
				t.Errorf("Probe (-want +got):\n%s", diff)
			}
			if tt.want.Fault == hook.FaultTimeout && (r.Took < short || r.Took > 5*time.Second) {
				t.Errorf("it took %s; want %s", r.Took, short)
			}
		})
	}
	t.Run("a reset amid the status line", func(t *testing.T) {
		// Whether what came before the reset is read is the kernel's to say.
		addr := raw(t, func(c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, "HTTP/1.1 2")
			_ = c.(*net.TCPConn).SetLinger(0)
		})
		if r := c.Probe(t.Context(), at(t, addr, hook.Probe{Type: "http"})); r.Fault != hook.FaultTCP || r.Reason != "connection reset" {
			t.Errorf("Probe = %+v; want connection reset", r)
		}
	})
	t.Run("no address at all", func(t *testing.T) {
		for _, p := range []hook.Probe{{Type: "tcp", IP: "web1.example.test", Port: 80}, {Type: "tcp", IP: "127.0.0.1"}, {Type: "tcp", IP: "127.0.0.1", Port: 70000}} {
			if r := c.Probe(t.Context(), p); r.Fault != hook.FaultBlocked {
				t.Errorf("Probe(%+v) = %+v; want fault blocked", p, r)
			}
		}
	})
}

func TestClient_Probe_asksAgainInHTTP10(t *testing.T) {
	for _, kind := range []string{"http", "https"} {
		var versions []string
		serve := func(c net.Conn) {
			r := readRequest(c)
			versions = append(versions, r.Proto)
			if r.Proto == "HTTP/1.1" {
				_, _ = io.WriteString(c, "HTTP/1.0 505 HTTP Version Not Supported\r\n\r\n")
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.0 200 OK\r\n\r\n")
		}
		addr := raw(t, serve)
		if kind == "https" {
			addr = secured(t, nil, serve)
		}
		r := local(t, egress.Options{}).Probe(t.Context(), at(t, addr, hook.Probe{Type: kind}))
		if r.Code != 200 || strings.Join(versions, " ") != "HTTP/1.1 HTTP/1.0" || (r.CertificateMS != 0) != (kind == "https") {
			t.Errorf("Probe = %+v after %v; want 200 after both versions", r, versions)
		}
	}
	t.Run("a server that knows neither", func(t *testing.T) {
		r := local(t, egress.Options{}).Probe(t.Context(), at(t, says(t, "HTTP/1.0 505 \r\n\r\n"), hook.Probe{Type: "http"}))
		if r.Fault != hook.FaultNone || r.Code != 505 {
			t.Errorf("Probe = %+v; want 505", r)
		}
	})
	t.Run("a server that hangs then", func(t *testing.T) {
		addr := raw(t, func(c net.Conn) {
			if readRequest(c).Proto == "HTTP/1.1" {
				_, _ = io.WriteString(c, "HTTP/1.1 505 \r\n\r\n")
				return
			}
			untilClosed(c)
		})
		r := local(t, egress.Options{}).Probe(t.Context(), at(t, addr, hook.Probe{Type: "http", Timeout: 150 * time.Millisecond}))
		if r.Fault != hook.FaultNone || r.Code != 505 || r.Took < 150*time.Millisecond {
			t.Errorf("Probe = %+v; want 505, and within one time for both", r)
		}
	})
	t.Run("not gRPC", func(t *testing.T) {
		asked := 0
		addr := h2c(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { asked++; w.WriteHeader(505) }))
		if r := local(t, egress.Options{}).Probe(t.Context(), at(t, addr, hook.Probe{Type: "grpc"})); r.Code != 505 || asked != 1 {
			t.Errorf("Probe = %+v after %d requests; want one", r, asked)
		}
	})
}

// secured is a server that treats each TLS session as serve says. Its
// certificate is for example.com, signed by nobody, unless config has one.
func secured(t testing.TB, config *tls.Config, serve func(net.Conn)) string {
	t.Helper()
	if config == nil {
		config = &tls.Config{}
	}
	if len(config.Certificates) == 0 {
		config.Certificates = []tls.Certificate{certificate(t, time.Now().Add(time.Hour))}
	}
	return raw(t, func(c net.Conn) {
		if s := tls.Server(c, config); s.Handshake() == nil {
			serve(s)
		} else {
			untilClosed(c) // what the client has on its way must not turn the alert into a reset
		}
	})
}

// certificate is for example.com, and its own authority.
func certificate(t testing.TB, ends time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"example.com"}, NotBefore: ends.AddDate(-1, 0, 0), NotAfter: ends,
		IsCA: true, BasicConstraintsValid: true,
	}, &x509.Certificate{SerialNumber: big.NewInt(1)}, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func TestClient_Probe_tellsWhenTheCertificateEnds(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	roots := x509.NewCertPool()
	server := func(ends time.Time, trusted bool, version uint16) string {
		cert := certificate(t, ends)
		if trusted {
			roots.AddCert(cert.Leaf)
		}
		return secured(t, &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: version, NextProtos: []string{"h2", "http/1.1"}}, func(c net.Conn) {
			if readRequest(c) != nil { // no request of HTTP/1 from a probe of gRPC
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			}
		})
	}
	soon, past, later := now.Add(36*time.Hour), now.AddDate(0, 0, -3), now.AddDate(2, 0, 0)
	tests := []struct {
		name   string
		addr   string
		ends   time.Time
		probe  hook.Probe
		fault  hook.ProbeFault
		reason string
	}{
		{"one that is good", server(soon, true, 0), soon, hook.Probe{Host: "example.com", VerifyTLS: true}, "", ""},
		{"one that is good, TLS 1.2", server(soon, true, tls.VersionTLS12), soon, hook.Probe{Host: "example.com", VerifyTLS: true}, "", ""},
		{"one that has expired", server(past, true, 0), past, hook.Probe{Host: "example.com", VerifyTLS: true}, hook.FaultTCP, "TLS: certificate expired at " + past.Format(time.RFC3339)},
		{"one that has expired, TLS 1.2", server(past, true, tls.VersionTLS12), past, hook.Probe{Host: "example.com", VerifyTLS: true}, hook.FaultTCP, "TLS: certificate expired at " + past.Format(time.RFC3339)},
		{"one that is not valid yet", server(later, true, 0), later, hook.Probe{Host: "example.com", VerifyTLS: true}, hook.FaultTCP, "TLS: certificate is not valid before " + later.AddDate(-1, 0, 0).Format(time.RFC3339)},
		{"one that has expired, not verified", server(past, false, 0), past, hook.Probe{Host: "example.com"}, "", ""},
		{"one signed by nobody", server(soon, false, 0), soon, hook.Probe{Host: "example.com", VerifyTLS: true}, hook.FaultTCP, "TLS: certificate is signed by an unknown authority"},
		{"one signed by nobody, not verified", server(soon, false, 0), soon, hook.Probe{Host: "example.com"}, "", ""},
		{"one of another name", server(soon, true, 0), soon, hook.Probe{Host: "a.example.test", VerifyTLS: true}, hook.FaultTCP, "TLS: certificate is for example.com, not for a.example.test"},
		{"one of another name than the configuration's", server(soon, true, 0), soon, hook.Probe{Host: "example.com", SNI: "a.example.test", VerifyTLS: true}, hook.FaultTCP, "TLS: certificate is for example.com, not for a.example.test"},
	}
	c := local(t, egress.Options{RootCAs: roots})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.probe.Type = "https"
			r := c.Probe(t.Context(), at(t, tt.addr, tt.probe))
			if got := time.UnixMilli(r.CertificateMS).UTC(); r.Fault != tt.fault || r.Reason != tt.reason || !got.Equal(tt.ends) {
				t.Errorf("Probe = %+v, its certificate ends %s; want %q, %q, %s", r, got, tt.fault, tt.reason, tt.ends)
			}
			if (r.Code == 200) != (tt.fault == "") {
				t.Errorf("status %d", r.Code)
			}
			tt.probe.Type = "grpcs"
			r = c.Probe(t.Context(), at(t, tt.addr, tt.probe))
			if got := time.UnixMilli(r.CertificateMS).UTC(); !got.Equal(tt.ends) {
				t.Errorf("Probe of grpcs = %+v, its certificate ends %s; want %s", r, got, tt.ends)
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		for _, kind := range []string{"http", "tcp", "grpc"} {
			if r := c.Probe(t.Context(), at(t, says(t, "HTTP/1.1 200 OK\r\n\r\n"), hook.Probe{Type: kind})); r.CertificateMS != 0 {
				t.Errorf("Probe of %s = %+v; want no certificate", kind, r)
			}
		}
	})
}

// TestClient_Probe_notVerified holds that a probe whose upstream does not
// verify certificates is judged by the same rules.
func TestClient_Probe_notVerified(t *testing.T) {
	c, err := egress.New(egress.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c.SetBackstop(func(address string) error {
		t.Errorf("%s would have been dialled", address)
		return syscall.ECONNREFUSED
	})
	for _, kind := range []string{"http", "https", "tcp", "grpc", "grpcs"} {
		for _, ip := range []string{"127.0.0.1", "169.254.169.254", "10.0.0.1", "::1", "fd00:ec2::254", "::ffff:10.0.0.1"} {
			r := c.Probe(t.Context(), hook.Probe{Type: kind, IP: ip, Port: 443, Host: "example.com"})
			if r.Fault != hook.FaultBlocked || !strings.HasPrefix(r.Reason, "blocked by the egress rules: ") {
				t.Errorf("Probe of %s at %s = %+v; want fault blocked", kind, ip, r)
			}
		}
	}
}

func TestClient_Probe_noRoute(t *testing.T) {
	const v4, v6 = "192.0.2.1", "2001:db8::1"
	tests := []struct {
		name   string
		ip     string
		err    error
		routed bool
		fault  hook.ProbeFault
		reason string
	}{
		{"no IPv6 network", v6, syscall.ENETUNREACH, false, hook.FaultNoRoute, "no route to IPv6 addresses from here"},
		{"no IPv6 address", v6, syscall.EADDRNOTAVAIL, false, hook.FaultNoRoute, "no route to IPv6 addresses from here"},
		{"no IPv6 in the kernel", v6, syscall.EAFNOSUPPORT, false, hook.FaultNoRoute, "no route to IPv6 addresses from here"},
		{"a router on the way that knows no network", v6, syscall.ENETUNREACH, true, hook.FaultTCP, "network unreachable"},
		{"no port free", v6, syscall.EADDRNOTAVAIL, true, hook.FaultTCP, "address cannot be reached from here"},
		{"a host that is not there", v6, syscall.EHOSTUNREACH, false, hook.FaultTCP, "host unreachable"},
		{"nobody listens", v6, syscall.ECONNREFUSED, false, hook.FaultTCP, "connection refused"},
		{"no answer", v6, syscall.ETIMEDOUT, false, hook.FaultTimeout, "connection timed out"},
		{"no IPv4 network", v4, syscall.ENETUNREACH, false, hook.FaultTCP, "network unreachable"},
		{"no IPv4 network, written as IPv6", "::ffff:" + v4, syscall.ENETUNREACH, false, hook.FaultTCP, "network unreachable"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := egress.New(egress.Options{AllowPrivate: []netip.Prefix{netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("192.0.2.0/24")}})
			if err != nil {
				t.Fatal(err)
			}
			c.SetBackstop(func(string) error { return os.NewSyscallError("connect", tt.err) })
			c.SetRouted(func(netip.AddrPort) bool { return tt.routed })
			for _, kind := range []string{"http", "https", "tcp", "grpc", "grpcs"} {
				r := c.Probe(t.Context(), hook.Probe{Type: kind, IP: tt.ip, Port: 80})
				if r.Fault != tt.fault || r.Reason != tt.reason {
					t.Errorf("Probe of %s = %q, %q; want %q, %q", kind, r.Fault, r.Reason, tt.fault, tt.reason)
				}
			}
		})
	}
}

func TestRouted(t *testing.T) {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err == nil {
		_ = l.Close()
	}
	if loopback := netip.MustParseAddrPort("[::1]:80"); egress.Routed(loopback) != (err == nil) {
		t.Errorf("Routed(::1) = %t; to listen there: %v", egress.Routed(loopback), err)
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
