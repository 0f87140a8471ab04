package egress

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"eventhooks/internal/hook"
)

// maxStatusLine bounds what is read of a probe's answer.
const maxStatusLine = 1 << 10

// Probe checks one address as Kong's health checker does: it connects, for
// https makes a TLS session, for http and https sends a GET and reads the
// status line, nothing else. For grpc and grpcs it asks the standard health
// protocol over HTTP/2. Each probe has a connection of its own.
//
// A refused or broken connection and a failed handshake are FaultTCP, a time
// that runs out is FaultTimeout wherever it happens, an answer that is not
// HTTP, or not gRPC, or another grpc-status than 0 is FaultHTTP. No verdict are
// FaultBlocked, for an address that the egress rules refuse or a probe that
// cannot be written, and FaultNoRoute, for an IPv6 address when this machine
// has no IPv6. What a status or a serving status means is the caller's to
// judge. When ctx ends before the probe's own time, the result is worth
// nothing: the caller looks at ctx.
func (c *Client) Probe(ctx context.Context, p hook.Probe) hook.ProbeResult {
	start := time.Now()
	if p.Timeout <= 0 {
		p.Timeout = DefaultTimeout
	}
	own, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()

	result := c.probe(own, p, "1.1")
	if result.Code == http.StatusHTTPVersionNotSupported && (p.Type == "http" || p.Type == "https") {
		// Kong asks a server that does not know HTTP/1.1 once more in 1.0.
		if again := c.probe(own, p, "1.0"); again.Fault == hook.FaultNone {
			result = again
		}
	}
	if ctx.Err() != nil && result.Fault != hook.FaultNone {
		result.Reason = "given up: the run had no more time"
	}
	result.Took = time.Since(start)
	return result
}

func (c *Client) probe(ctx context.Context, p hook.Probe, version string) hook.ProbeResult {
	var r hook.ProbeResult
	ip, err := netip.ParseAddr(p.IP)
	if err != nil || p.Port < 1 || p.Port > 65535 {
		return fault(r, hook.FaultBlocked, "the target is not an address and a port")
	}
	ap := netip.AddrPortFrom(ip, uint16(p.Port))
	var request []byte
	switch p.Type {
	case "tcp":
	case "http", "https":
		request, err = c.probeRequest(p, version)
	case "grpc", "grpcs":
		request, err = c.grpcRequest(p, ap)
	default:
		err = errors.New("nobody knows how to probe this type")
	}
	if err != nil {
		return fault(r, hook.FaultBlocked, err.Error())
	}

	began := time.Now()
	dialer := *c.dialer
	dialer.KeepAlive = -1
	conn, err := dialer.DialContext(ctx, "tcp", ap.String())
	if err != nil {
		return c.notConnected(ctx, r, ap, err, p.Timeout)
	}
	r.Connect = time.Since(began)
	if p.Type == "tcp" {
		_ = conn.Close()
		return r
	}

	// The end of the time ends whatever the connection is waiting for, a
	// farewell that nobody reads too. So when something failed and ctx has
	// ended, the time was the reason.
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	session := conn
	defer func() { _ = session.Close() }()

	if p.Type == "https" || p.Type == "grpcs" {
		began = time.Now()
		secure, name := c.tlsClient(conn, p)
		session = secure
		err := secure.Handshake()
		r.CertificateMS = certificateEnd(secure, err)
		if err != nil {
			return notSecured(ctx, r, err, name, p)
		}
		r.TLS = time.Since(began)
	}
	if p.Type == "grpc" || p.Type == "grpcs" {
		return check(ctx, session, request, r, p.Timeout)
	}
	began = time.Now()
	if _, err := session.Write(request); err != nil {
		return notTaken(ctx, r, err, p.Timeout)
	}
	return readStatus(ctx, session, r, p.Timeout, began)
}

// notConnected judges why there is no connection.
func (c *Client) notConnected(ctx context.Context, r hook.ProbeResult, ap netip.AddrPort, err error, timeout time.Duration) hook.ProbeResult {
	if blocked, ok := errors.AsType[*BlockedError](err); ok {
		return fault(r, hook.FaultBlocked, blocked.Error())
	}
	if expired(ctx, err) {
		return fault(r, hook.FaultTimeout, "no connection within "+seconds(timeout))
	}
	if ap.Addr().Unmap().Is6() && noRoute(err) && !c.routed(ap) {
		if err := c.Judge(ap); err != nil { // without IPv6 the dialer may give up before it asks
			return fault(r, hook.FaultBlocked, err.Error())
		}
		return fault(r, hook.FaultNoRoute, "no route to IPv6 addresses from here")
	}
	e := dialReason(err)
	if e.Timeout {
		return fault(r, hook.FaultTimeout, e.Reason)
	}
	return fault(r, hook.FaultTCP, e.Reason)
}

// noRoute reports whether an error is one of those that a machine without IPv6
// makes of an IPv6 address.
func noRoute(err error) bool {
	return errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)
}

// routed reports whether this machine knows a way to an address. To connect a
// UDP socket asks the kernel just that, and sends nothing; routers on the way,
// which may say that the network is unreachable as well, have no part in it.
func routed(ap netip.AddrPort) bool {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(ap))
	if err != nil {
		return !noRoute(err)
	}
	_ = conn.Close()
	return true
}

// tlsClient returns a TLS session to be made over conn, and the name that the
// server's certificate must have.
func (c *Client) tlsClient(conn net.Conn, p hook.Probe) (secure *tls.Conn, name string) {
	if name = p.SNI; name == "" {
		name = serverName(p)
	}
	config := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		RootCAs:            c.roots,
		ServerName:         name,
		InsecureSkipVerify: !p.VerifyTLS, // the upstream's own https_verify_certificate=false
	}
	if p.Type == "grpcs" {
		config.NextProtos = []string{"h2"}
	}
	return tls.Client(conn, config), name
}

// notSecured judges why there is no TLS session.
func notSecured(ctx context.Context, r hook.ProbeResult, err error, name string, p hook.Probe) hook.ProbeResult {
	if expired(ctx, err) {
		return fault(r, hook.FaultTimeout, "TLS: no handshake within "+seconds(p.Timeout))
	}
	return fault(r, hook.FaultTCP, tlsReason(err, name))
}

// certificateEnd is when the certificate ends that the server showed, Unix
// milliseconds, whatever err says of the handshake; 0 when it showed none.
func certificateEnd(secure *tls.Conn, err error) int64 {
	shown := secure.ConnectionState().PeerCertificates
	if refused, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		shown = refused.UnverifiedCertificates
	}
	if len(shown) == 0 {
		return 0
	}
	return shown[0].NotAfter.UnixMilli()
}

// notTaken judges why the request could not be sent.
func notTaken(ctx context.Context, r hook.ProbeResult, err error, timeout time.Duration) hook.ProbeResult {
	if expired(ctx, err) {
		return fault(r, hook.FaultTimeout, "request not taken within "+seconds(timeout))
	}
	return fault(r, hook.FaultTCP, answerReason(err, false).Reason)
}

// readStatus reads the status line, and not a byte more than it must.
func readStatus(ctx context.Context, conn net.Conn, r hook.ProbeResult, timeout time.Duration, began time.Time) hook.ProbeResult {
	var buf [maxStatusLine]byte
	for n := 0; ; {
		k, err := conn.Read(buf[n:])
		if k > 0 && n == 0 {
			r.FirstByte = time.Since(began)
		}
		n += k
		got := buf[:n]
		if line, _, whole := bytes.Cut(got, []byte("\n")); whole {
			code, ok := statusOf(line)
			if !ok {
				return fault(r, hook.FaultHTTP, "the answer is not HTTP")
			}
			r.Code = code
			return r
		}
		if !startsHTTP(got) || n == len(buf) {
			return fault(r, hook.FaultHTTP, "the answer is not HTTP")
		}
		switch {
		case err == nil:
		case expired(ctx, err):
			return fault(r, hook.FaultTimeout, "no answer within "+seconds(timeout))
		case errors.Is(err, io.EOF) && n > 0:
			return fault(r, hook.FaultTCP, "connection closed in the middle of the answer")
		default:
			return fault(r, hook.FaultTCP, answerReason(err, n > 0).Reason)
		}
	}
}

func fault(r hook.ProbeResult, f hook.ProbeFault, reason string) hook.ProbeResult {
	r.Fault, r.Reason = f, reason
	return r
}

// expired reports whether the time ran out, as opposed to something the other
// side did.
func expired(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

// startsHTTP reports whether a status line may begin so.
func startsHTTP(b []byte) bool {
	const start = "HTTP/"
	n := min(len(b), len(start))
	return string(b[:n]) == start[:n]
}

// statusOf reads "HTTP/1.1 200 OK". Kong asks for no more than the version
// and the number.
func statusOf(line []byte) (code int, ok bool) {
	version, rest, found := bytes.Cut(bytes.TrimSuffix(line, []byte("\r")), []byte(" "))
	if !found || !startsHTTP(version) {
		return 0, false
	}
	major, minor, found := bytes.Cut(version[len("HTTP/"):], []byte("."))
	if !found || !digits(major) || !digits(minor) {
		return 0, false
	}
	number, _, _ := bytes.Cut(bytes.TrimLeft(rest, " "), []byte(" "))
	if len(number) != 3 || !digits(number) || number[0] == '0' {
		return 0, false
	}
	return int(number[0]-'0')*100 + int(number[1]-'0')*10 + int(number[2]-'0'), true
}

func digits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(b) > 0
}

// serverName is the name for TLS when none is configured: the host without its
// port.
func serverName(p hook.Probe) string {
	host := p.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if host == "" {
		return p.IP
	}
	return host
}

// probeRequest writes the request. Whatever stood in the configuration, it is
// one request: bytes that would end a line never get into it.
func (c *Client) probeRequest(p hook.Probe, version string) ([]byte, error) {
	host := p.Host
	if host == "" {
		host = p.IP
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
	}
	agent := c.userAgent
	headers := make([]byte, 0, 128)
	for _, name := range slices.Sorted(maps.Keys(p.Headers)) {
		if err := checkHeader(name, p.Headers[name]); err != nil {
			return nil, err
		}
		for _, value := range p.Headers[name] {
			switch {
			case strings.EqualFold(name, "Host"):
				host = value
				continue
			case strings.EqualFold(name, "Connection"), strings.EqualFold(name, "Content-Length"), strings.EqualFold(name, "Transfer-Encoding"):
				continue // of this connection and this request, which are ours
			case strings.EqualFold(name, "User-Agent"):
				agent = ""
			}
			headers = append(headers, name+": "+value+"\r\n"...)
		}
	}
	if !printable(host) {
		return nil, errors.New("the host holds a control character")
	}
	b := make([]byte, 0, 128+len(headers))
	b = append(b, "GET "...)
	b = appendPath(b, p.Path)
	b = append(b, " HTTP/"+version+"\r\nHost: "+host+"\r\nConnection: close\r\n"...)
	if agent != "" {
		b = append(b, "User-Agent: "+agent+"\r\n"...)
	}
	b = append(b, headers...)
	return append(b, "\r\n"...), nil
}

// checkHeader refuses what would make more of a header than one.
func checkHeader(name string, values []string) error {
	if !token(name) {
		return errors.New("a header's name is not valid")
	}
	for _, value := range values {
		if !printable(value) {
			return errors.New("the value of header " + name + " holds a control character")
		}
	}
	return nil
}

// appendPath writes a path as it was configured, but for bytes that no request
// line may hold: those are percent-encoded.
func appendPath(b []byte, path string) []byte {
	if !strings.HasPrefix(path, "/") {
		b = append(b, '/')
	}
	for i := range len(path) {
		if c := path[i]; c > ' ' && c < 0x7f {
			b = append(b, c)
		} else {
			b = append(b, '%')
			hex := strconv.FormatUint(uint64(c), 16)
			if len(hex) == 1 {
				b = append(b, '0')
			}
			b = append(b, strings.ToUpper(hex)...)
		}
	}
	return b
}

// token reports whether s is a header's name, RFC 9110.
func token(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0 {
			continue
		}
		return false
	}
	return s != ""
}

// printable reports whether s is free of control characters, tabs apart.
func printable(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
