package egress_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/egress"
	"eventhooks/internal/hook"
)

const checkPath = "/grpc.health.v1.Health/Check"

// message is a gRPC message with its head.
func message(body ...byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...)
}

// grpcAnswers answers as a gRPC server: a body, if there is one, and behind it
// the grpc-status, if there is one.
func grpcAnswers(body []byte, status string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		if body == nil {
			if status != "" {
				w.Header().Set("Grpc-Status", status) // in the headers: they are all there is
			}
			return
		}
		_, _ = w.Write(body)
		if status != "" {
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", status)
		}
	}
}

// health speaks the health protocol for one service besides the server as a
// whole, which is serving.
func health(service string, serving byte) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST "+checkPath, func(w http.ResponseWriter, r *http.Request) {
		request, err := io.ReadAll(r.Body)
		asked := append([]byte{1<<3 | 2, byte(len(service))}, service...)
		switch {
		case err != nil:
		case bytes.Equal(request, message()):
			grpcAnswers(message(1<<3, 1), "0")(w, r)
		case bytes.Equal(request, message(asked...)):
			grpcAnswers(message(1<<3, serving), "0")(w, r)
		default:
			grpcAnswers(nil, "5")(w, r)
		}
	})
	return mux
}

// unstarted is a server of HTTP/2, with TLS or without.
func unstarted(h http.Handler) *httptest.Server {
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = quiet
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetHTTP2(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.EnableHTTP2 = true
	return s
}

// h2c serves HTTP/2 without TLS.
func h2c(t testing.TB, h http.Handler) string {
	t.Helper()
	s := unstarted(h)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// h2s serves HTTP/2 with TLS.
func h2s(t testing.TB, h http.Handler) *httptest.Server {
	t.Helper()
	s := unstarted(h)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// Frames of HTTP/2, RFC 9113.
const (
	frameData, frameHeaders, framePriority, frameReset, frameSettings, framePush, framePing, frameGoAway, frameWindow, frameContinuation = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9

	ack, endStream, endHeaders, padded, priority = 0x1, 0x1, 0x4, 0x8, 0x20
)

func frame(kind, flags, stream byte, payload ...byte) []byte {
	n := len(payload)
	return append([]byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags, 0, 0, 0, stream}, payload...)
}

// grpcHead is the header block of ":status: 200" and "content-type:
// application/grpc".
var grpcHead = append([]byte{0x88, 0x0f, 0x10, 16}, "application/grpc"...)

// grpcTail is the header block of "grpc-status: 0".
var grpcTail = append([]byte{0x00, 11}, "grpc-status\x010"...)

// frames is a server that takes the request, sends these frames, and then goes
// on as serve says; nil hangs up.
func frames(t testing.TB, serve func(net.Conn), all ...[]byte) string {
	return raw(t, func(c net.Conn) {
		if !readCheck(c) {
			return
		}
		_, _ = c.Write(frame(frameSettings, 0, 0))
		_, _ = c.Write(bytes.Join(all, nil))
		if serve != nil {
			serve(c)
			return
		}
		_ = c.(*net.TCPConn).CloseWrite() // to close it with something unread would reset it
		untilClosed(c)
	})
}

// readCheck reads up to the end of the request.
func readCheck(c net.Conn) bool {
	if _, err := io.ReadFull(c, make([]byte, len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))); err != nil {
		return false
	}
	for {
		var head [9]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return false
		}
		n := int64(head[0])<<16 | int64(head[1])<<8 | int64(head[2])
		if _, err := io.CopyN(io.Discard, c, n); err != nil {
			return false
		}
		if head[3] == frameData && head[4]&endStream != 0 {
			return true
		}
	}
}

func TestClient_Probe_grpcAsks(t *testing.T) {
	type asked struct {
		Method, Path, Proto, Host string
		Header                    http.Header
		Body                      []byte
	}
	got := make(chan asked, 1)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Header.Del("Content-Length")
		got <- asked{r.Method, r.RequestURI, r.Proto, r.Host, r.Header, body}
		grpcAnswers(message(1<<3, 1), "0")(w, r)
	})
	plain := h2c(t, handler)
	secure := h2s(t, handler)
	common := http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "User-Agent": {"eventhooks"}}
	with := func(more http.Header) http.Header {
		h := common.Clone()
		for name, values := range more {
			h[name] = values
		}
		return h
	}
	long, huge := strings.Repeat("x", 200), strings.Repeat("y", 20<<10)
	tests := []struct {
		name  string
		probe hook.Probe
		want  asked
	}{
		{
			"nothing but the address",
			hook.Probe{Type: "grpc"},
			asked{Host: plain, Header: common, Body: []byte{0, 0, 0, 0, 0}},
		},
		{
			"a service, a host and metadata",
			hook.Probe{Type: "grpc", Host: "web1.example.test:9000", Path: "/status", Service: "a.B", Headers: map[string][]string{"X-Two": {"a", "b"}, "Authorization": {"Basic x"}, "key-bin": {"AAE="}}},
			asked{Host: "web1.example.test:9000", Header: with(http.Header{"X-Two": {"a", "b"}, "Authorization": {"Basic x"}, "Key-Bin": {"AAE="}}), Body: []byte("\x00\x00\x00\x00\x05\x0a\x03a.B")},
		},
		{
			"a long name of a service",
			hook.Probe{Type: "grpc", Service: long},
			asked{Host: plain, Header: common, Body: []byte("\x00\x00\x00\x00\xcb\x0a\xc8\x01" + long)},
		},
		{
			"more headers than a frame may hold",
			hook.Probe{Type: "grpc", Headers: map[string][]string{"X-A": {huge}, "X-B": {huge}}},
			asked{Host: plain, Header: with(http.Header{"X-A": {huge}, "X-B": {huge}})},
		},
		{
			"headers of its own for what we would send",
			hook.Probe{Type: "grpc", Host: "a.example.test", Headers: map[string][]string{
				"host": {"b.example.test"}, "user-agent": {"mine"}, "Connection": {"keep-alive"}, "Content-Length": {"5"}, "content-type": {"text/plain"},
				"TE": {"gzip"}, "grpc-encoding": {"gzip"}, "Grpc-Timeout": {"1n"}, "Transfer-Encoding": {"chunked"}, "Upgrade": {"x"}, "Keep-Alive": {"1"}, "Proxy-Connection": {"x"},
			}},
			asked{Host: "b.example.test", Header: with(http.Header{"User-Agent": {"mine"}})},
		},
		{
			"with TLS",
			hook.Probe{Type: "grpcs", Host: "example.com"},
			asked{Host: "example.com", Header: common},
		},
	}
	c := local(t, egress.Options{})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			addr := plain
			if tt.probe.Type == "grpcs" {
				addr = secure.Listener.Addr().String()
			}
			if r := c.Probe(t.Context(), at(t, addr, tt.probe)); r.Fault != hook.FaultNone || r.Serving != 1 {
				t.Fatalf("Probe = %+v; want SERVING", r)
			}
			tt.want.Method, tt.want.Path, tt.want.Proto = "POST", checkPath, "HTTP/2.0"
			if tt.want.Body == nil {
				tt.want.Body = message()
			}
			if diff := cmp.Diff(tt.want, <-got); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("an IPv6 address", func(t *testing.T) {
		l, err := net.Listen("tcp6", "[::1]:0")
		if err != nil {
			t.Skip("this machine has no IPv6 loopback")
		}
		s := unstarted(handler)
		_ = s.Listener.Close()
		s.Listener = l
		s.Start()
		defer s.Close()
		if r := c.Probe(t.Context(), at(t, l.Addr().String(), hook.Probe{Type: "grpc"})); r.Serving != 1 {
			t.Fatalf("Probe = %+v; want SERVING", r)
		}
		if host := (<-got).Host; host != l.Addr().String() {
			t.Errorf("authority %q; want %q", host, l.Addr())
		}
	})
}

func TestClient_Probe_grpcJudgesWhatItMet(t *testing.T) {
	short := 150 * time.Millisecond
	all := health("a.B", 2)
	secure := h2s(t, all)
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	secureAddr := secure.Listener.Addr().String()
	alpn := func(protocols ...string) string {
		cert := secure.TLS.Certificates[0]
		return raw(t, func(c net.Conn) {
			s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: protocols})
			if s.Handshake() == nil {
				untilClosed(s)
			}
		})
	}
	answers := func(body []byte, status string) string { return h2c(t, grpcAnswers(body, status)) }
	plain := func(code int, contentType string) string {
		return h2c(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(code)
			_, _ = io.WriteString(w, "hello")
		}))
	}
	serving := message(1<<3, 1)
	drip := func(every time.Duration) func(net.Conn) {
		return func(c net.Conn) {
			for _, b := range serving {
				if every > 0 {
					<-time.After(every)
				}
				if _, err := c.Write(frame(frameData, 0, 1, b)); err != nil {
					return
				}
			}
			_, _ = c.Write(frame(frameHeaders, endStream|endHeaders, 1, grpcTail...))
			untilClosed(c)
		}
	}
	head := frame(frameHeaders, endHeaders, 1, grpcHead...)
	tail := frame(frameHeaders, endStream|endHeaders, 1, grpcTail...)
	noMessage := "the answer is not a message of the health protocol"
	broken := "the answer is not valid HTTP/2"
	const connected, answered, securely = "connect", "connect answer", "connect tls answer"

	tests := []struct {
		name  string
		addr  string
		probe hook.Probe
		want  met
	}{
		{"the server as a whole", h2c(t, all), hook.Probe{}, met{Code: 200, Serving: 1, Reason: "SERVING", Phases: answered}},
		{"a service that is not serving", h2c(t, all), hook.Probe{Service: "a.B"}, met{Code: 200, Serving: 2, Reason: "NOT_SERVING", Phases: answered}},
		{"a service that nobody knows", h2c(t, all), hook.Probe{Service: "a.C"}, met{Fault: hook.FaultHTTP, Code: 200, Reason: "grpc-status 5: the server does not know the service", Phases: answered}},
		{"a server without the protocol", answers(nil, "12"), hook.Probe{}, met{Fault: hook.FaultHTTP, Code: 200, Reason: "grpc-status 12: the server does not implement the health protocol", Phases: answered}},
		{"a status of zero is UNKNOWN", answers(message(), "0"), hook.Probe{}, met{Code: 200, Reason: "UNKNOWN", Phases: answered}},
		{"a status that Check does not know", answers(message(1<<3, 3), "0"), hook.Probe{}, met{Code: 200, Serving: 3, Reason: "SERVICE_UNKNOWN", Phases: answered}},
		{"a status that nobody knows", answers(message(1<<3, 7), "0"), hook.Probe{}, met{Code: 200, Serving: 7, Reason: "serving status 7", Phases: answered}},
		{"a negative status", answers(message(1<<3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1), "0"), hook.Probe{}, met{Code: 200, Serving: -1, Reason: "serving status -1", Phases: answered}},
		{"a status of more bits than an enum has", answers(message(1<<3, 0x81, 0x80, 0x80, 0x80, 0x10), "0"), hook.Probe{}, met{Code: 200, Serving: 1, Reason: "SERVING", Phases: answered}},
		{"fields of a later version", answers(message(2<<3|2, 3, 'a', 'b', 'c', 3<<3, 0x80, 1, 4<<3|5, 1, 2, 3, 4, 1<<3, 1, 5<<3|1, 1, 2, 3, 4, 5, 6, 7, 8), "0"), hook.Probe{}, met{Code: 200, Serving: 1, Reason: "SERVING", Phases: answered}},
		{"no SERVING without its grpc-status", answers(serving, ""), hook.Probe{}, met{Fault: hook.FaultHTTP, Code: 200, Reason: "the answer is not gRPC: it has no grpc-status", Phases: answered}},
		{"no SERVING with another grpc-status", answers(serving, "13"), hook.Probe{}, met{Fault: hook.FaultHTTP, Code: 200, Reason: "grpc-status 13: internal error", Phases: answered}},
		{"a grpc-status that nobody knows", answers(nil, "99"), hook.Probe{}, met{Fault: hook.FaultHTTP, Code: 200, Reason: "grpc-status 99", Phases: answered}},
		{"a grpc-status that is no number", answers(nil, "-0 ok"), hook.Probe{}, met{Fault: hook.FaultHTTP, Code: 200, Reason: "the answer is not gRPC: its grpc-status is not a number", Phases: answered}},
		{"grpc-status 0 and no message", answers(nil, "0"), hook.Probe{}, met{Fault: hook.FaultHTTP, Code: 200, Reason: "the answer holds no message", Phases: answered}},
		{"a message cut short", answers(serving[:6], "0"), hook.Probe{}, met{Fault: hook.FaultHTTP, Code: 200, Reason: "the answer is not one whole message", Phases: answered}},
		{"two messages", answers(append(serving[:7:7], serving...), "0"), hook.Probe{}, met{Fault: hook.FaultHTTP, Code: 200, Reason: "the answer is not one whole message", Phases: answered}},
		{"a message that claims 4 GB", answers([]byte{0, 0xff, 0xff, 0xff, 0xff, 8, 1}, "0"), hook.Probe{}, met{Fault: hook.FaultHTTP, Code: 200, Reason: "the answer is not one whole message", Phases: answered}},
		{"a compressed message", answers(append([]byte{1}, serving[1:]...), "0"), hook.Probe{}, met{Fault: hook.FaultHTTP, Code: 200, Reason: "the answer is compressed, which was not asked for", Phases: answered}},
		{"a field without its value", answers(message(1<<3), "0"), hook.Probe{}, met{Fault: hook.FaultHTTP, Code: 200, Reason: noMessage, Phases: answered}},
		{"a field longer than the message", answers(message(2<<3|2, 200, 1), "0"), hook.Probe{}, met{Fault: hook.FaultHTTP, Code: 200, Reason: noMessage, Phases: answered}},
		{"a field as long as 64 bits say", answers(message(2<<3|2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1), "0"), hook.Probe{}, met{Fault: hook.FaultHTTP, Code: 200, Reason: noMessage, Phases: answered}},
		{"text for a message", answers(message([]byte("SERVING")...), "0"), hook.Probe{}, met{Fault: hook.FaultHTTP, Code: 200, Reason: noMessage, Phases: answered}},
		{"a page", plain(200, "text/html"), hook.Probe{}, met{Fault: hook.FaultHTTP, Code: 200, Reason: "the answer is not gRPC: HTTP status 200", Phases: answered}},
		{"no page", plain(404, "text/plain"), hook.Probe{}, met{Fault: hook.FaultHTTP, Code: 404, Reason: "the answer is not gRPC: HTTP status 404", Phases: answered}},
		{"gRPC for browsers", plain(200, "application/grpc-web"), hook.Probe{}, met{Fault: hook.FaultHTTP, Code: 200, Reason: "the answer is not gRPC: HTTP status 200", Phases: answered}},
		{"a proxy's error under gRPC's content type", plain(503, "application/grpc+proto"), hook.Probe{}, met{Fault: hook.FaultHTTP, Code: 503, Reason: "the answer is not gRPC: HTTP status 503", Phases: answered}},
		{"an answer of 64 KB and a byte", answers(make([]byte, 64<<10+1), "0"), hook.Probe{}, met{Fault: hook.FaultHTTP, Code: 200, Reason: "the answer is larger than 64 KB", Phases: answered}},
		{"a server of HTTP/1", raw(t, func(c net.Conn) {
			_, _ = c.Read(make([]byte, 10))
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
			untilClosed(c)
		}), hook.Probe{}, met{Fault: hook.FaultHTTP, Reason: "the answer is not gRPC: the server speaks HTTP/1", Phases: connected}},
		{"a server of mail", raw(t, func(c net.Conn) {
			_, _ = io.WriteString(c, "220 mail.example ESMTP\r\n")
			untilClosed(c)
		}), hook.Probe{}, met{Fault: hook.FaultHTTP, Reason: "the answer is not gRPC: the server does not speak HTTP/2", Phases: connected}},
		{"frames that came later to HTTP/2", frames(t, untilClosed, frame(0x0c, 0, 0, 0, 1, 'a'), head, frame(0x2a, 0xff, 0xff), frame(frameData, 0, 1, serving...), tail), hook.Probe{}, met{Code: 200, Serving: 1, Reason: "SERVING", Phases: answered}},
		{"frames that say nothing about the answer", frames(t, untilClosed, frame(frameSettings, 0, 0, 0, 3, 0, 0, 0, 100), frame(frameWindow, 0, 0, 0, 0, 1, 0), frame(framePriority, 0, 1, 0, 0, 0, 0, 16), frame(frameSettings, ack, 0), frame(framePing, ack, 0, 1, 2, 3, 4, 5, 6, 7, 8), head, frame(frameWindow, 0, 1, 0, 0, 1, 0), frame(frameData, 0, 1, serving...), tail), hook.Probe{}, met{Code: 200, Serving: 1, Reason: "SERVING", Phases: answered}},
		{"padding and priority", frames(t, untilClosed, frame(frameHeaders, endHeaders|padded|priority, 1, slices.Concat([]byte{2, 0, 0, 0, 0, 16}, grpcHead, []byte{0, 0})...), frame(frameData, padded, 1, slices.Concat([]byte{3}, serving, []byte{8, 2, 0})...), frame(frameData, padded, 1, 0), tail), hook.Probe{}, met{Code: 200, Serving: 1, Reason: "SERVING", Phases: answered}},
		{"headers in pieces", frames(t, untilClosed, frame(frameHeaders, 0, 1, grpcHead[:3]...), frame(frameContinuation, 0, 1), frame(frameContinuation, endHeaders, 1, grpcHead[3:]...), frame(frameData, 0, 1, serving...), frame(frameHeaders, endStream, 1, grpcTail[:9]...), frame(frameContinuation, endHeaders, 1, grpcTail[9:]...)), hook.Probe{}, met{Code: 200, Serving: 1, Reason: "SERVING", Phases: answered}},
		{"early hints", frames(t, untilClosed, frame(frameHeaders, endHeaders, 1, append([]byte{0x08, 3}, "103"...)...), head, frame(frameData, 0, 1, serving...), tail), hook.Probe{}, met{Code: 200, Serving: 1, Reason: "SERVING", Phases: answered}},
		{"a dynamic table that is not used", frames(t, untilClosed, frame(frameHeaders, endHeaders, 1, slices.Concat([]byte{0x20}, grpcHead, []byte{0x40, 1, 'a', 1, 'b'})...), frame(frameData, 0, 1, serving...), tail), hook.Probe{}, met{Code: 200, Serving: 1, Reason: "SERVING", Phases: answered}},
		{"a dynamic table that is", frames(t, untilClosed, frame(frameHeaders, endHeaders, 1, slices.Concat(grpcHead, []byte{0x40, 1, 'a', 1, 'b', 0x80 | 62})...)), hook.Probe{}, met{Fault: hook.FaultHTTP, Reason: broken, Phases: connected}},
		{"hints that are all", frames(t, untilClosed, frame(frameHeaders, endHeaders|endStream, 1, append([]byte{0x08, 3}, "103"...)...)), hook.Probe{}, met{Fault: hook.FaultHTTP, Reason: broken, Phases: connected}},
		{"data before headers", frames(t, untilClosed, frame(frameData, 0, 1, serving...)), hook.Probe{}, met{Fault: hook.FaultHTTP, Reason: broken, Phases: connected}},
		{"headers of another stream", frames(t, untilClosed, frame(frameHeaders, endHeaders, 3, grpcHead...)), hook.Probe{}, met{Fault: hook.FaultHTTP, Reason: broken, Phases: connected}},
		{"data of another stream", frames(t, untilClosed, head, frame(frameData, 0, 3, serving...)), hook.Probe{}, met{Fault: hook.FaultHTTP, Code: 200, Reason: broken, Phases: answered}},
		{"headers twice", frames(t, untilClosed, head, head), hook.Probe{}, met{Fault: hook.FaultHTTP, Code: 200, Reason: broken, Phases: answered}},
		{"trailers that do not end", frames(t, untilClosed, head, frame(frameHeaders, endHeaders, 1, grpcTail...)), hook.Probe{}, met{Fault: hook.FaultHTTP, Code: 200, Reason: broken, Phases: answered}},
		{"a push", frames(t, untilClosed, frame(framePush, endHeaders, 1, 0, 0, 0, 2)), hook.Probe{}, met{Fault: hook.FaultHTTP, Reason: broken, Phases: connected}},
		{"something between the pieces of headers", frames(t, untilClosed, frame(frameHeaders, 0, 1, grpcHead...), frame(framePing, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8)), hook.Probe{}, met{Fault: hook.FaultHTTP, Reason: broken, Phases: connected}},
		{"a piece of no headers", frames(t, untilClosed, frame(frameContinuation, endHeaders, 1, grpcHead...)), hook.Probe{}, met{Fault: hook.FaultHTTP, Reason: broken, Phases: connected}},
		{"more padding than frame", frames(t, untilClosed, frame(frameHeaders, endHeaders|padded, 1, 200, 0x88)), hook.Probe{}, met{Fault: hook.FaultHTTP, Reason: broken, Phases: connected}},
		{"padding of no length", frames(t, untilClosed, frame(frameHeaders, endHeaders|padded, 1)), hook.Probe{}, met{Fault: hook.FaultHTTP, Reason: broken, Phases: connected}},
		{"a ping of another size", frames(t, untilClosed, frame(framePing, 0, 0, 1)), hook.Probe{}, met{Fault: hook.FaultHTTP, Reason: broken, Phases: connected}},
		{"a status of four digits", frames(t, untilClosed, frame(frameHeaders, endHeaders, 1, append([]byte{0x08, 4}, "2000"...)...)), hook.Probe{}, met{Fault: hook.FaultHTTP, Reason: broken, Phases: connected}},
		{"no status", frames(t, untilClosed, frame(frameHeaders, endHeaders, 1, grpcHead[1:]...)), hook.Probe{}, met{Fault: hook.FaultHTTP, Reason: broken, Phases: connected}},
		{"headers that stop", frames(t, untilClosed, frame(frameHeaders, endHeaders, 1, 0x88, 0x00, 5, 'a')), hook.Probe{}, met{Fault: hook.FaultHTTP, Reason: broken, Phases: connected}},
		{"frames, one by one", frames(t, untilClosed, head, frame(frameData, 0, 1, serving...), tail), hook.Probe{}, met{Code: 200, Serving: 1, Reason: "SERVING", Phases: answered}},
		{"frames of one byte", frames(t, drip(0), head), hook.Probe{}, met{Code: 200, Serving: 1, Reason: "SERVING", Phases: answered}},
		{"frames that drip", frames(t, drip(60*time.Millisecond), head), hook.Probe{Timeout: short}, met{Fault: hook.FaultTimeout, Code: 200, Reason: "no whole answer within 0.15 s", Phases: answered}},
		{"no end after SERVING", frames(t, untilClosed, head, frame(frameData, 0, 1, serving...)), hook.Probe{Timeout: short}, met{Fault: hook.FaultTimeout, Code: 200, Reason: "no whole answer within 0.15 s", Phases: answered}},
		{"nothing but settings", frames(t, untilClosed), hook.Probe{Timeout: short}, met{Fault: hook.FaultTimeout, Reason: "no answer within 0.15 s", Phases: connected}},
		{"a silent server", raw(t, untilClosed), hook.Probe{Timeout: short}, met{Fault: hook.FaultTimeout, Reason: "no answer within 0.15 s", Phases: connected}},
		{"nobody listens", refusing(t), hook.Probe{}, met{Fault: hook.FaultTCP, Reason: "connection refused"}},
		{"a server that hangs up", raw(t, func(c net.Conn) { readCheck(c) }), hook.Probe{}, met{Fault: hook.FaultTCP, Reason: "connection closed without an answer", Phases: connected}},
		{"a server that hangs up amid the answer", frames(t, nil, head, frame(frameData, 0, 1, serving[:6]...)), hook.Probe{}, met{Fault: hook.FaultTCP, Code: 200, Reason: "connection closed in the middle of the answer", Phases: answered}},
		{"a reset connection", raw(t, func(c net.Conn) { readCheck(c); _ = c.(*net.TCPConn).SetLinger(0) }), hook.Probe{}, met{Fault: hook.FaultTCP, Reason: "connection reset", Phases: connected}},
		{"a farewell for an answer", frames(t, untilClosed, frame(frameGoAway, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)), hook.Probe{}, met{Fault: hook.FaultHTTP, Reason: "the server ended the connection (GOAWAY)", Phases: connected}},
		{"an angry farewell", frames(t, nil, frame(frameGoAway, 0, 0, append([]byte{0, 0, 0, 0, 0, 0, 0, 11}, "calm down"...)...)), hook.Probe{}, met{Fault: hook.FaultHTTP, Reason: "the server ended the connection (GOAWAY)", Phases: connected}},
		{"a farewell that promises an answer, and none", frames(t, nil, frame(frameGoAway, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0)), hook.Probe{}, met{Fault: hook.FaultHTTP, Reason: "the server ended the connection (GOAWAY)", Phases: connected}},
		{"a farewell before the answer to what was asked", frames(t, untilClosed, frame(frameGoAway, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0), head, frame(frameData, 0, 1, serving...), tail), hook.Probe{}, met{Code: 200, Serving: 1, Reason: "SERVING", Phases: answered}},
		{"a refused request", frames(t, untilClosed, frame(frameReset, 0, 1, 0, 0, 0, 7)), hook.Probe{}, met{Fault: hook.FaultHTTP, Reason: "the server ended the request (RST_STREAM)", Phases: connected}},
		{"a request ended amid the answer", frames(t, untilClosed, head, frame(frameReset, 0, 1, 0, 0, 0, 2)), hook.Probe{}, met{Fault: hook.FaultHTTP, Code: 200, Reason: "the server ended the request (RST_STREAM)", Phases: answered}},
		{"headers that are none", frames(t, nil, frame(frameHeaders, endHeaders, 1, 0x80)), hook.Probe{}, met{Fault: hook.FaultHTTP, Reason: broken, Phases: connected}},
		{"a host that no request may name", raw(t, untilClosed), hook.Probe{Host: "a b"}, met{Fault: hook.FaultBlocked, Reason: "the host holds a character that no host has"}},
		{"a service whose name is longer than any", raw(t, untilClosed), hook.Probe{Service: strings.Repeat("x", 16<<10)}, met{Fault: hook.FaultBlocked, Reason: "the name of the service is too long"}},
		{"a header that would break the request", raw(t, untilClosed), hook.Probe{Headers: map[string][]string{"X-A": {"1\r\nX-B: 2"}}}, met{Fault: hook.FaultBlocked, Reason: "the value of header X-A holds a control character"}},
		{"a header's name that would", raw(t, untilClosed), hook.Probe{Headers: map[string][]string{":path": {"/"}}}, met{Fault: hook.FaultBlocked, Reason: "a header's name is not valid"}},

		{"with TLS", secureAddr, hook.Probe{Type: "grpcs", VerifyTLS: true, Host: "example.com"}, met{Code: 200, Serving: 1, Reason: "SERVING", Phases: securely, Certificate: true}},
		{"with TLS, NOT_SERVING", secureAddr, hook.Probe{Type: "grpcs", VerifyTLS: true, Host: "web1.example.test", SNI: "example.com", Service: "a.B"}, met{Code: 200, Serving: 2, Reason: "NOT_SERVING", Phases: securely, Certificate: true}},
		{"with TLS, another name", secureAddr, hook.Probe{Type: "grpcs", VerifyTLS: true, Host: "web1.example.test"}, met{Fault: hook.FaultTCP, Reason: "TLS: certificate is for example.com, *.example.com, 127.0.0.1 and others, not for web1.example.test", Phases: connected, Certificate: true}},
		{"with TLS, another name, not verified", secureAddr, hook.Probe{Type: "grpcs", Host: "web1.example.test"}, met{Code: 200, Serving: 1, Reason: "SERVING", Phases: securely, Certificate: true}},
		{"with TLS for HTTP/1 only", alpn("http/1.1"), hook.Probe{Type: "grpcs"}, met{Fault: hook.FaultTCP, Reason: "TLS: the server refuses the handshake (no application protocol)", Phases: connected}},
		{"with TLS that does not say what for", alpn(), hook.Probe{Type: "grpcs"}, met{Fault: hook.FaultHTTP, Reason: "the server did not agree to HTTP/2 (ALPN h2)", Phases: "connect tls", Certificate: true}},
		{"with TLS, then silence", alpn("h2"), hook.Probe{Type: "grpcs", Timeout: short}, met{Fault: hook.FaultTimeout, Reason: "no answer within 0.15 s", Phases: "connect tls", Certificate: true}},
		{"a silent server where TLS should be", raw(t, untilClosed), hook.Probe{Type: "grpcs", Timeout: short}, met{Fault: hook.FaultTimeout, Reason: "TLS: no handshake within 0.15 s", Phases: connected}},
		{"no TLS where it should be", h2c(t, all), hook.Probe{Type: "grpcs", Timeout: 2 * time.Second}, met{Fault: hook.FaultTCP, Reason: "TLS: the server does not speak TLS on this port", Phases: connected}},
	}
	c := local(t, egress.Options{RootCAs: roots})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.probe.Type == "" {
				tt.probe.Type = "grpc"
			}
			r := c.Probe(t.Context(), at(t, tt.addr, tt.probe))
			if diff := cmp.Diff(tt.want, whatItMet(r)); diff != "" {
				t.Errorf("Probe (-want +got):\n%s", diff)
			}
			if tt.want.Fault == hook.FaultTimeout && (r.Took < short || r.Took > 5*time.Second) {
				t.Errorf("it took %s; want %s", r.Took, short)
			}
		})
	}
}

// TestClient_GRPCRequest_frames holds what no server of the tests minds: which
// frames the request is cut into, and what it calls its scheme.
func TestClient_GRPCRequest_frames(t *testing.T) {
	c := local(t, egress.Options{})
	ap := netip.MustParseAddrPort("127.0.0.1:80")
	long := map[string][]string{"X-A": {strings.Repeat("x", 40<<10)}}
	plain, err := c.GRPCRequest(hook.Probe{Type: "grpc", Headers: long}, ap)
	if err != nil {
		t.Fatal(err)
	}
	secure, err := c.GRPCRequest(hook.Probe{Type: "grpcs", Headers: long}, ap)
	if err != nil {
		t.Fatal(err)
	}
	rest, ok := bytes.CutPrefix(plain, []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
	if !ok {
		t.Fatalf("the request begins %q", plain[:24])
	}
	var got []string
	var block []byte
	for len(rest) > 0 {
		n := int(rest[0])<<16 | int(rest[1])<<8 | int(rest[2])
		if n > 16<<10 {
			t.Errorf("a frame of %d bytes", n)
		}
		got = append(got, fmt.Sprintf("%d flags %d stream %d", rest[3], rest[4], rest[8]))
		if rest[3] == frameHeaders || rest[3] == frameContinuation {
			block = append(block, rest[9:9+n]...)
		}
		rest = rest[9+n:]
	}
	want := []string{"4 flags 0 stream 0", "8 flags 0 stream 0", "1 flags 0 stream 1", "9 flags 0 stream 1", "9 flags 4 stream 1", "0 flags 1 stream 1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("frames (-want +got):\n%s", diff)
	}
	// The static table's :scheme: http and https.
	if at := bytes.Index(plain, block[:2]); block[1] != 0x86 || secure[at+1] != 0x87 {
		t.Errorf("schemes %#x and %#x; want 0x86 and 0x87", block[1], secure[at+1])
	}
}

// TestClient_Probe_grpcBrokenThenClosed holds that the reason is the answer's,
// not that of the connection that closed behind it.
func TestClient_Probe_grpcBrokenThenClosed(t *testing.T) {
	broken := frames(t, nil, frame(frameHeaders, endHeaders, 1, 0x80))
	silent := raw(t, func(net.Conn) {})
	c := local(t, egress.Options{})
	for range 100 {
		if r := c.Probe(t.Context(), at(t, broken, hook.Probe{Type: "grpc"})); r.Fault != hook.FaultHTTP || r.Reason != "the answer is not valid HTTP/2" {
			t.Fatalf("Probe of broken headers = %+v; want fault http", r)
		}
		// Closed while the request is on its way, or before it is.
		if r := c.Probe(t.Context(), at(t, silent, hook.Probe{Type: "grpc"})); r.Fault != hook.FaultTCP || !strings.HasPrefix(r.Reason, "connection ") {
			t.Fatalf("Probe of a closed connection = %+v; want fault tcp", r)
		}
	}
}

// TestClient_Probe_readsNoMoreThanItMust lets servers send 10 GB.
func TestClient_Probe_readsNoMoreThanItMust(t *testing.T) {
	const tenGB = 10 << 30
	// kernels is what a connection may hold that the probe never read.
	const kernels = 32 << 20
	chunk := bytes.Repeat([]byte("x"), 1<<20)
	var sent atomic.Int64
	flood := func(c io.Writer, with []byte) {
		for sent.Load() < tenGB {
			n, err := c.Write(with)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}
	times := func(n int, b []byte) []byte { return bytes.Repeat(b, n) }
	certificate := h2s(t, http.NotFoundHandler()).TLS.Certificates[0]
	headers := make([]byte, 16<<10)
	for i := 0; i+4 <= len(headers); i += 4 {
		copy(headers[i:], []byte{0x00, 1, 'a', 0}) // a: ""
	}

	type server func(c net.Conn)
	ended := make(chan struct{})
	at10GB := func(s server) string {
		return raw(t, func(c net.Conn) {
			defer func() { ended <- struct{}{} }()
			s(c)
		})
	}
	afterCheck := func(with []byte) server {
		return func(c net.Conn) {
			if readCheck(c) {
				_, _ = c.Write(frame(frameSettings, 0, 0))
				flood(c, with)
			}
		}
	}
	tests := []struct {
		name  string
		serve server
		probe hook.Probe
		want  met
	}{
		{"a status line", func(c net.Conn) { readRequest(c); _, _ = io.WriteString(c, "HTTP/1.1 200 "); flood(c, chunk) }, hook.Probe{Type: "http"}, met{Fault: hook.FaultHTTP, Reason: "the answer is not HTTP", Phases: "connect answer"}},
		{"headers", func(c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			flood(c, times(1<<14, []byte("A: "+strings.Repeat("b", 59)+"\r\n")))
		}, hook.Probe{Type: "http"}, met{Code: 200, Phases: "connect answer"}},
		{"a body", func(c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n")
			flood(c, chunk)
		}, hook.Probe{Type: "http"}, met{Code: 200, Phases: "connect answer"}},
		{"headers, with TLS", func(c net.Conn) {
			s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{certificate}})
			readRequest(s)
			_, _ = io.WriteString(s, "HTTP/1.1 200 OK\r\n")
			flood(s, times(1<<14, []byte("A: "+strings.Repeat("b", 59)+"\r\n")))
		}, hook.Probe{Type: "https"}, met{Code: 200, Phases: "connect tls answer", Certificate: true}},
		{"where TLS should be", func(c net.Conn) { flood(c, chunk) }, hook.Probe{Type: "https"}, met{Fault: hook.FaultTCP, Reason: "TLS: the server does not speak TLS on this port", Phases: "connect"}},
		{"to a probe that only connects", func(c net.Conn) { flood(c, chunk) }, hook.Probe{Type: "tcp"}, met{Phases: "connect"}},
		{"a message", nil, hook.Probe{Type: "grpc"}, met{Fault: hook.FaultHTTP, Code: 200, Reason: "the answer is larger than 64 KB", Phases: "connect answer"}},
		{"frames of headers", func(c net.Conn) {
			if readCheck(c) {
				_, _ = c.Write(append(frame(frameSettings, 0, 0), frame(frameHeaders, 0, 1, grpcHead...)...))
				flood(c, times(64, frame(frameContinuation, 0, 1, headers...)))
			}
		}, hook.Probe{Type: "grpc"}, met{Fault: hook.FaultHTTP, Reason: "the answer's headers are larger than 64 KB", Phases: "connect"}},
		{"frames of no meaning", afterCheck(times(64, frame(0xbe, 0, 0, chunk[:16<<10]...))), hook.Probe{Type: "grpc"}, met{Fault: hook.FaultHTTP, Reason: "the answer is larger than 256 KB", Phases: "connect"}},
		{"pings", afterCheck(times(1<<14, frame(framePing, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8))), hook.Probe{Type: "grpc"}, met{Fault: hook.FaultHTTP, Reason: "the answer is larger than 256 KB", Phases: "connect"}},
		{"settings", afterCheck(times(1<<14, frame(frameSettings, 0, 0))), hook.Probe{Type: "grpc"}, met{Fault: hook.FaultHTTP, Reason: "the answer is larger than 256 KB", Phases: "connect"}},
		{"one frame", afterCheck(append([]byte{0xff, 0xff, 0xff, frameData, 0, 0, 0, 0, 1}, chunk...)), hook.Probe{Type: "grpc"}, met{Fault: hook.FaultHTTP, Reason: "the answer is not valid HTTP/2", Phases: "connect"}},
	}
	c := local(t, egress.Options{})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sent.Store(0)
			addr := at10GB(tt.serve)
			if tt.serve == nil {
				addr = h2c(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					defer func() { ended <- struct{}{} }()
					w.Header().Set("Content-Type", "application/grpc")
					flood(w, chunk)
				}))
			}
			probe := at(t, addr, tt.probe)
			probe.Timeout = 30 * time.Second // the bound is what ends it
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			r := c.Probe(t.Context(), probe)
			<-ended
			runtime.ReadMemStats(&after)
			if diff := cmp.Diff(tt.want, whatItMet(r)); diff != "" {
				t.Errorf("Probe (-want +got):\n%s", diff)
			}
			if n := sent.Load(); n > kernels {
				t.Errorf("the server could send %d MB", n>>20)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 8<<20 {
				t.Errorf("%d KB were allocated", n>>10)
			}
		})
	}
}

// TestClient_Probe_grpcConfirms holds that a server is told what HTTP/2 wants it
// told: that its settings are taken, and that the connection lives.
func TestClient_Probe_grpcConfirms(t *testing.T) {
	got := make(chan []byte, 1)
	addr := frames(t, func(c net.Conn) {
		want := append(frame(frameSettings, ack, 0), frame(framePing, ack, 0, 1, 2, 3, 4, 5, 6, 7, 8)...)
		b := make([]byte, len(want))
		_, _ = io.ReadFull(c, b)
		got <- b
		_, _ = c.Write(frame(frameHeaders, endHeaders|endStream, 1, grpcHead...))
	}, frame(framePing, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8))
	r := local(t, egress.Options{}).Probe(t.Context(), at(t, addr, hook.Probe{Type: "grpc"}))
	if r.Code != 200 {
		t.Fatalf("Probe = %+v; want an answer", r)
	}
	b := <-got
	settings, ping := frame(frameSettings, ack, 0), frame(framePing, ack, 0, 1, 2, 3, 4, 5, 6, 7, 8)
	if !bytes.Contains(b, settings) || !bytes.Contains(b, ping) {
		t.Errorf("told the server %x; want %x and %x", b, settings, ping)
	}
}

// TestReadAnswer_compressedHeaders reads what net/http's own encoder makes of
// every byte that a header may hold.
func TestReadAnswer_compressedHeaders(t *testing.T) {
	all := make([]byte, 0, 256)
	for c := ' '; c < 256; c++ {
		if c != 0x7f {
			all = append(all, byte(c), '0') // zeros make it worth to be compressed
		}
	}
	values := []string{strings.Trim(string(all), " "), "0", "12", "Mon, 21 Oct 2013 20:13:21 GMT", strings.Repeat("0", 100), strings.Repeat("\xff", 100), "a\tb"}
	for _, value := range values {
		addr := h2c(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			grpcAnswers(message(), value)(w, r)
			w.Header().Set(http.TrailerPrefix+"X-Other", value)
		}))
		conn, err := net.Dial("tcp4", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		request, err := local(t, egress.Options{}).GRPCRequest(hook.Probe{Type: "grpc"}, netip.MustParseAddrPort(addr))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(request); err != nil {
			t.Fatal(err)
		}
		code, contentType, got, body, err := egress.ReadAnswer(conn)
		if err != nil || code != 200 || contentType != "application/grpc" || !bytes.Equal(body, message()) || got != value {
			t.Errorf("ReadAnswer = %d, %q, %q, %q, %v; want the status %q", code, contentType, got, body, err, value)
		}
	}
}

// TestReadAnswer_huffman holds HPACK's code to the examples of RFC 7541,
// appendix C, and to what it says of padding.
func TestReadAnswer_huffman(t *testing.T) {
	tests := []struct{ hex, want string }{
		{"f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"},
		{"a8eb10649cbf", "no-cache"},
		{"25a849e95ba97d7f", "custom-key"},
		{"25a849e95bb8e8b4bf", "custom-value"},
		{"6402", "302"},
		{"aec3771a4b", "private"},
		{"d07abe941054d444a8200595040b8166e082a62d1bff", "Mon, 21 Oct 2013 20:13:21 GMT"},
		{"9d29ad171863c78f0b97c8e9ae82ae43d3", "https://www.example.com"},
		{"94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"},
		{"67", "3"},
		{"64", ""},       // padding of zeros
		{"67ff", ""},     // padding of more than 7 bits
		{"fffffffc", ""}, // the code of the end
	}
	for _, tt := range tests {
		raw, err := hex.DecodeString(tt.hex)
		if err != nil {
			t.Fatal(err)
		}
		block := slices.Concat([]byte{0x88, 0x00, 11}, []byte("grpc-status"), []byte{0x80 | byte(len(raw))}, raw)
		in := append(frame(frameSettings, 0, 0), frame(frameHeaders, endHeaders|endStream, 1, block...)...)
		_, _, got, _, err := egress.ReadAnswer(&stream{in: bytes.NewReader(in)})
		if got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("%s reads %q, %v; want %q", tt.hex, got, err, tt.want)
		}
	}
}

func TestReadAnswer_bound(t *testing.T) {
	one := frame(frameSettings, 0, 0, make([]byte, 900)...)
	s := &stream{in: bytes.NewReader(bytes.Repeat(one, 1000))}
	_, _, _, _, err := egress.ReadAnswer(s)
	if err == nil || err.Error() != "the answer is larger than 256 KB" || s.received != egress.MaxConnection {
		t.Errorf("ReadAnswer = %v after %d bytes; want it to end after %d", err, s.received, egress.MaxConnection)
	}
}

// stream is a server that has said all it will, in odd pieces.
type stream struct {
	in       io.Reader
	out      bytes.Buffer
	received int
}

func (s *stream) Write(p []byte) (int, error) { return s.out.Write(p) }

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.in.Read(p[:min(len(p), 997)])
	s.received += n
	return n, err
}

// FuzzReadAnswer holds that no answer is too odd: it ends, and within the
// bounds.
func FuzzReadAnswer(f *testing.F) {
	head, tail := frame(frameHeaders, endHeaders, 1, grpcHead...), frame(frameHeaders, endStream|endHeaders, 1, grpcTail...)
	f.Add(slices.Concat(head, frame(frameData, 0, 1, message(1<<3, 1)...), tail))
	f.Add(slices.Concat(frame(framePing, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8), frame(frameHeaders, endHeaders|padded|priority, 1, slices.Concat([]byte{2, 0, 0, 0, 0, 16}, grpcHead, []byte{0, 0})...), tail))
	f.Add(slices.Concat(frame(frameHeaders, 0, 1, 0x3f, 0xe1, 0x1f, 0x7f, 0x80, 0x01), frame(frameContinuation, endHeaders|endStream, 1, 0x00, 0x8b, 0x9a)))
	f.Add(slices.Concat(head, frame(frameGoAway, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0), frame(frameReset, 0, 1, 0, 0, 0, 0)))
	f.Fuzz(func(t *testing.T, rest []byte) {
		s := &stream{in: bytes.NewReader(append(frame(frameSettings, 0, 0), rest...))}
		code, _, _, body, err := egress.ReadAnswer(s)
		if code != 0 && (code < 200 || code > 999) || err == nil && (code == 0 || len(body) > 64<<10) {
			t.Errorf("status %d, %d bytes, %v", code, len(body), err)
		}
		if s.received > egress.MaxConnection || s.out.Len() > egress.MaxConnection {
			t.Errorf("%d bytes read and %d sent", s.received, s.out.Len())
		}
	})
}
