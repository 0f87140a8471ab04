// Package egress is the only HTTP client that leaves: hooks' requests and
// probes of targets go through it and nothing else does.
//
// It judges every address at the moment it is dialled, so that a name that
// resolves to something else the second time, a redirect or an odd spelling
// changes nothing. It follows no redirects, knows no proxy, decompresses
// nothing, caps what it reads, and its errors never quote a URL, because the
// path of a chat webhook is its password.
package egress

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"syscall"
	"time"

	"eventhooks/internal/hook"
)

// Options of a Client. The zero value is the strictest client.
type Options struct {
	// AllowPrivate are ranges that the operator lets through although they are
	// private, shared or reserved. It never opens loopback, link-local,
	// metadata, unspecified, multicast or broadcast addresses.
	AllowPrivate []netip.Prefix
	// AllowLoopback lets 127.0.0.0/8 and ::1 through: local mode only.
	AllowLoopback bool
	// DenyAddrs are where this process listens itself: refused whatever else
	// is allowed. An unspecified address means its port on every address that
	// is not public.
	DenyAddrs []netip.AddrPort
	// RootCAs verify the receivers' certificates; nil means the system's.
	RootCAs *x509.CertPool
	// Resolver finds the addresses of names; nil means net.DefaultResolver.
	Resolver *net.Resolver
	// UserAgent is what a probe sends when its headers have none; default
	// "eventhooks". Requests carry their own.
	UserAgent string
}

// Bounds of a call.
const (
	// DefaultTimeout is the time of a call that names none.
	DefaultTimeout = hook.DefaultTimeout * time.Second
	// MaxHeaderBytes bounds the headers of an answer.
	MaxHeaderBytes = 64 << 10
	// drainBytes is how much of an answer is read beyond what is kept, to find
	// its end: only then can the connection be used again.
	drainBytes = 32 << 10
	// idleTimeout is how long a connection waits for the next call. Apache and
	// Node close theirs after 5 s, and a request that meets the closing on its
	// way fails for nothing.
	idleTimeout = 4 * time.Second
)

// Client makes requests and probes. It is safe for concurrent use; make one
// per process, because it holds the connections that are used again.
type Client struct {
	rules     *rules
	dialer    *net.Dialer
	verify    *http.Transport
	insecure  *http.Transport
	roots     *x509.CertPool
	userAgent string
	// backstop is asked after the rules; tests refuse everything there so
	// that no packet leaves.
	backstop func(address string) error
	// routed is the function of that name; tests have another.
	routed func(netip.AddrPort) bool
}

// New returns a client. The error names an option that makes no sense.
func New(o Options) (*Client, error) {
	r, err := newRules(o)
	if err != nil {
		return nil, err
	}
	c := &Client{rules: r, roots: o.RootCAs, userAgent: o.UserAgent}
	if c.userAgent == "" {
		c.userAgent = "eventhooks"
	}
	c.dialer = &net.Dialer{
		Timeout:        30 * time.Second, // every call's own deadline is earlier; this one ends a dial that outlived its call
		Resolver:       o.Resolver,
		ControlContext: c.control,
	}
	c.verify = c.transport(false)
	c.insecure = c.transport(true)
	c.routed = routed
	return c, nil
}

func (c *Client) transport(insecure bool) *http.Transport {
	one := new(http.Protocols)
	one.SetHTTP1(true)
	return &http.Transport{
		Proxy:       nil, // the rules would see only the proxy
		DialContext: c.dialer.DialContext,
		TLSClientConfig: &tls.Config{
			MinVersion:         tls.VersionTLS12,
			RootCAs:            c.roots,
			InsecureSkipVerify: insecure,                          // the hook's own config.ssl_verify=false
			ClientSessionCache: tls.NewLRUClientSessionCache(128), // one per transport: a session that was not verified never serves a call that verifies
		},
		TLSHandshakeTimeout:    30 * time.Second,
		Protocols:              one,
		DisableCompression:     true,
		MaxIdleConns:           128,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: MaxHeaderBytes,
	}
}

// control sees every address just before it is dialled.
func (c *Client) control(_ context.Context, network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return &BlockedError{Class: ClassUnknown}
	}
	if err := c.rules.dial(address); err != nil {
		return err
	}
	if c.backstop != nil {
		return c.backstop(address)
	}
	return nil
}

// Judge returns nil for an address that the client would dial, or a
// *BlockedError. It helps to say early what a call would meet; the calls judge
// again.
func (c *Client) Judge(a netip.AddrPort) error { return c.rules.judge(a) }

// CloseIdle closes the connections that no call is using.
func (c *Client) CloseIdle() {
	c.verify.CloseIdleConnections()
	c.insecure.CloseIdleConnections()
}

// Call says how a request is made.
type Call struct {
	// Timeout is for all of it: name, connection, TLS, answer. 0 means
	// DefaultTimeout.
	Timeout time.Duration
	// VerifyTLS checks the receiver's certificate. The zero value does not:
	// callers say what the hook says.
	VerifyTLS bool
	// MaxBody is how many bytes of the answer's body are kept; 0 means
	// hook.MaxResponseBytes.
	MaxBody int64
}

// Answer is what a receiver answered.
type Answer struct {
	Code   int // HTTP status; 0 when there was no answer
	Header http.Header
	// Body is as it was sent (never decompressed), at most Call.MaxBody bytes.
	Body []byte
	// Cut tells that Body is not the whole: it was longer, or its end did not
	// come in time.
	Cut  bool
	IP   string // address that was dialled; "" when none was
	Took time.Duration
}

// Error says in a person's words why there was no answer. It never holds a
// URL's path or query, a header or a body.
type Error struct {
	Reason  string
	Timeout bool // the time ran out

	cause error // only what the caller may ask about: the end of its own context
}

func (e *Error) Error() string { return e.Reason }

// Unwrap returns the error of the caller's context if that is what ended the
// call; nil otherwise.
func (e *Error) Unwrap() error { return e.cause }

// Do makes one request and returns the answer, whatever its status: an answer
// is there once its headers are, and a body that breaks off or drips changes
// only Answer.Cut. The error is a *BlockedError or an *Error; the answer is
// never nil, with an error it tells IP and Took.
func (c *Client) Do(ctx context.Context, r hook.Request, call Call) (*Answer, error) {
	start := time.Now()
	if call.Timeout <= 0 {
		call.Timeout = DefaultTimeout
	}
	if call.MaxBody <= 0 {
		call.MaxBody = hook.MaxResponseBytes
	}
	watch := &watch{}
	own, cancel := context.WithTimeout(ctx, call.Timeout)
	defer cancel()

	req, err := request(httptrace.WithClientTrace(own, watch.trace()), r)
	if err != nil {
		return &Answer{Took: time.Since(start)}, err
	}
	transport := c.verify
	if !call.VerifyTLS {
		transport = c.insecure
	}
	// RoundTrip, not Client.Do: no redirects, no cookies, no Referer, and no
	// error that quotes the URL.
	resp, err := transport.RoundTrip(req)
	if err != nil {
		err = watch.explain(ctx, own, err, req.URL.Hostname(), call.Timeout)
		answer := &Answer{IP: watch.dialled(), Took: time.Since(start)}
		if _, blocked := errors.AsType[*BlockedError](err); blocked {
			answer.IP = ""
		}
		return answer, err
	}
	defer func() { _ = resp.Body.Close() }()

	answer := &Answer{Code: resp.StatusCode, Header: resp.Header, IP: watch.dialled()}
	answer.Body, answer.Cut = readBody(resp, call.MaxBody)
	answer.Took = time.Since(start)
	return answer, nil
}

// readBody returns up to keep bytes and whether that is not all.
func readBody(resp *http.Response, keep int64) (body []byte, cut bool) {
	var b bytes.Buffer
	if n := min(resp.ContentLength, keep); n > 0 {
		b.Grow(int(n) + bytes.MinRead)
	}
	if _, err := io.CopyN(&b, resp.Body, keep); err != nil {
		return b.Bytes(), !errors.Is(err, io.EOF)
	}
	rest, err := io.CopyN(io.Discard, resp.Body, drainBytes)
	return b.Bytes(), rest > 0 || !errors.Is(err, io.EOF)
}

func request(ctx context.Context, r hook.Request) (*http.Request, error) {
	u, err := url.Parse(r.URL)
	switch {
	case err != nil: // url.Error quotes the whole
		return nil, &Error{Reason: "the URL is not valid"}
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, &Error{Reason: "the URL is neither http nor https"}
	case u.Hostname() == "":
		return nil, &Error{Reason: "the URL names no host"}
	case u.User != nil:
		return nil, &Error{Reason: "the URL carries user info"}
	}
	u.Fragment, u.RawFragment = "", ""
	req := (&http.Request{
		Method: r.Method, URL: u, Host: u.Host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: make(http.Header, len(r.Headers)+1),
	}).WithContext(ctx)
	valid := token(r.Method)
	for name, values := range r.Headers {
		valid = valid && token(name) && !slices.ContainsFunc(values, func(v string) bool { return !printable(v) })
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	if !valid {
		return nil, &Error{Reason: "the request cannot be written: a header or the method is not valid"}
	}
	if _, ok := req.Header["User-Agent"]; !ok {
		req.Header["User-Agent"] = nil // or Go sends its own
	}
	if len(r.Body) > 0 {
		req.ContentLength = int64(len(r.Body))
		req.Body = io.NopCloser(bytes.NewReader(r.Body))
		// For the one case in which the transport starts over by itself: a
		// kept connection that the receiver closed before anything was sent.
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(r.Body)), nil }
	} else {
		req.Body = http.NoBody
	}
	return req, nil
}

// watch follows one call through its phases. A dial that lost against a
// connection that became free goes on after its call: hence the lock.
type watch struct {
	mu       sync.Mutex
	ip       string
	got      bool  // a connection is there
	tls      error // why the handshake failed
	tlsOn    bool  // a handshake is under way
	dial     error // the last failure to connect that was not a refusal of ours
	answered bool  // the first byte of an answer came
	finished bool
}

func (w *watch) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		ConnectStart: func(_, address string) {
			w.note(func() { w.ip = host(address) })
		},
		ConnectDone: func(_, _ string, err error) {
			if _, blocked := errors.AsType[*BlockedError](err); err != nil && !blocked {
				w.note(func() { w.dial = err })
			}
		},
		TLSHandshakeStart: func() { w.note(func() { w.tlsOn = true }) },
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) {
			w.note(func() { w.tlsOn, w.tls = false, err })
		},
		GotConn: func(i httptrace.GotConnInfo) {
			w.note(func() { w.ip, w.got = host(i.Conn.RemoteAddr().String()), true })
		},
		GotFirstResponseByte: func() { w.note(func() { w.answered = true }) },
	}
}

func (w *watch) note(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.finished {
		f()
	}
}

func (w *watch) dialled() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ip
}

func host(address string) string {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return ""
	}
	return ap.Addr().Unmap().WithZone("").String()
}
