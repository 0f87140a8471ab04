package egress_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"eventhooks/internal/egress"
	"eventhooks/internal/hook"
)

// benchTargets is how many targets one run of healthprobe probes at most.
const benchTargets = 1000

// serveEnv makes this test binary the other side of the benchmarks, so that
// what they measure is the client alone.
const serveEnv = "EGRESS_TEST_SERVE_TARGETS"

func TestMain(m *testing.M) {
	if os.Getenv(serveEnv) != "" {
		serveTargets()
		return
	}
	os.Exit(m.Run())
}

// targets are the addresses of the other side.
type targets struct{ Plain, TLS []string }

// serveTargets listens for every target, says where, and serves until its
// standard input ends.
func serveTargets() {
	s := unstarted(health("", 1))
	s.StartTLS()
	var t targets
	listen := func(serve func(net.Listener) error) string {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		go func() { _ = serve(l) }()
		return l.Addr().String()
	}
	for range benchTargets {
		t.Plain = append(t.Plain, listen(s.Config.Serve))
		t.TLS = append(t.TLS, listen(func(l net.Listener) error { return s.Config.Serve(tls.NewListener(l, s.TLS)) }))
	}
	if err := json.NewEncoder(os.Stdout).Encode(t); err != nil {
		panic(err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// startTargets returns the targets of a process of their own.
func startTargets(b *testing.B) targets {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serveEnv+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	var t targets
	if err := json.NewDecoder(bufio.NewReader(out)).Decode(&t); err != nil {
		b.Fatal(err)
	}
	return t
}

// cpu is the CPU time of this process so far, user and system.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// overTargets calls one for each target in turn, and reports the CPU time of a
// call.
func overTargets(b *testing.B, addrs []string, one func(b *testing.B, addr string)) {
	b.ReportAllocs()
	before, n := cpu(b), 0
	for b.Loop() {
		one(b, addrs[n%len(addrs)])
		n++
	}
	b.ReportMetric((cpu(b)-before).Seconds()*1000/float64(n), "cpu-ms/op")
}

// benchRoots trusts the certificate of the targets.
func benchRoots() *x509.CertPool {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return roots
}

// BenchmarkProbe measures one probe of each type, BenchmarkGet what a probe is
// held against: a GET of net/http with a new connection.
func BenchmarkProbe(b *testing.B) {
	t := startTargets(b)
	c := local(b, egress.Options{RootCAs: benchRoots()})
	for _, kind := range []string{"http", "https", "tcp", "grpc", "grpcs"} {
		b.Run(kind, func(b *testing.B) {
			addrs := t.Plain
			if kind == "https" || kind == "grpcs" {
				addrs = t.TLS
			}
			overTargets(b, addrs, func(b *testing.B, addr string) {
				r := c.Probe(b.Context(), at(b, addr, hook.Probe{Type: kind, Host: "example.com", Path: "/status", VerifyTLS: true}))
				if r.Fault != hook.FaultNone {
					b.Fatalf("Probe = %+v", r)
				}
			})
		})
	}
}

func BenchmarkGet(b *testing.B) {
	t := startTargets(b)
	secure := &tls.Config{RootCAs: benchRoots(), ServerName: "example.com"}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: secure}, Timeout: 10 * time.Second}
	for _, kind := range []string{"http", "https"} {
		b.Run(kind, func(b *testing.B) {
			addrs := t.Plain
			if kind == "https" {
				addrs = t.TLS
			}
			overTargets(b, addrs, func(b *testing.B, addr string) {
				resp, err := c.Get(kind + "://" + addr + "/status")
				if err != nil {
					b.Fatal(err)
				}
				_ = resp.Body.Close()
			})
		})
	}
}
