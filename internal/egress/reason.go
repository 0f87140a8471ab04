package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
)

// explain turns what the transport says into a *BlockedError or an *Error.
// parent is the caller's context, own the call's.
func (w *watch) explain(parent, own context.Context, err error, host string, timeout time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.finished = true // what a forgotten dial says later is no news

	if parent.Err() != nil {
		return &Error{Reason: "given up: the caller had no more time", Timeout: errors.Is(parent.Err(), context.DeadlineExceeded), cause: parent.Err()}
	}
	if blocked, ok := errors.AsType[*BlockedError](err); ok {
		// A name may have several addresses. Only when all are refused is the
		// target refused: otherwise what failed is one that we may call.
		if w.dial == nil {
			return blocked
		}
		err = w.dial
	}
	if own.Err() != nil {
		within := " within " + seconds(timeout)
		switch {
		case w.tlsOn:
			return &Error{Reason: "TLS: no handshake" + within, Timeout: true}
		case !w.got:
			return &Error{Reason: "no connection" + within, Timeout: true}
		}
		return &Error{Reason: "no answer" + within, Timeout: true}
	}
	if !w.got {
		if w.tls != nil || errors.Is(err, http.ErrSchemeMismatch) {
			return &Error{Reason: tlsReason(err, host)}
		}
		return dialReason(err)
	}
	return answerReason(err, w.answered)
}

// dialReason says why there is no connection.
func dialReason(err error) *Error {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		switch {
		case dns.IsTimeout:
			return &Error{Reason: "the name server does not answer", Timeout: true}
		case dns.IsNotFound:
			return &Error{Reason: "name does not resolve"}
		}
		return &Error{Reason: "name does not resolve: the name server reports a failure"}
	}
	if words := systemReason(err); words != "" {
		return &Error{Reason: words, Timeout: errors.Is(err, syscall.ETIMEDOUT)}
	}
	if n, ok := errors.AsType[net.Error](err); ok && n.Timeout() {
		return &Error{Reason: "no connection in time", Timeout: true}
	}
	return &Error{Reason: "no connection"}
}

// answerReason says why a connection brought no answer.
func answerReason(err error, answered bool) *Error {
	if words := systemReason(err); words != "" {
		return &Error{Reason: words, Timeout: errors.Is(err, syscall.ETIMEDOUT)}
	}
	if words := alert(err); words != "" { // in TLS 1.3 a server judges the client after the handshake
		return &Error{Reason: "TLS: the server ends the session (" + words + ")"}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		if answered {
			return &Error{Reason: "connection closed in the middle of the answer"}
		}
		return &Error{Reason: "connection closed without an answer"}
	}
	if answered {
		return &Error{Reason: "the answer is not valid HTTP, or its headers are larger than " + strconv.Itoa(MaxHeaderBytes>>10) + " KB"}
	}
	return &Error{Reason: "the request could not be sent"}
}

// systemReason puts the kernel's errors in words; "" for others.
func systemReason(err error) string {
	errno, ok := errors.AsType[syscall.Errno](err)
	if !ok {
		return ""
	}
	switch errno {
	case syscall.ECONNREFUSED:
		return "connection refused"
	case syscall.ECONNRESET:
		return "connection reset"
	case syscall.ECONNABORTED:
		return "connection aborted"
	case syscall.EPIPE:
		return "connection closed while sending"
	case syscall.ETIMEDOUT:
		return "connection timed out"
	case syscall.EHOSTUNREACH, syscall.EHOSTDOWN:
		return "host unreachable"
	case syscall.ENETUNREACH, syscall.ENETDOWN:
		return "network unreachable"
	case syscall.EADDRNOTAVAIL, syscall.EINVAL:
		return "address cannot be reached from here"
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM:
		return "no connection: this system is out of resources"
	}
	return "no connection: " + errno.Error()
}

// tlsReason says why there is no TLS with host.
func tlsReason(err error, host string) string {
	if name, ok := errors.AsType[x509.HostnameError](err); ok {
		return "TLS: certificate is for " + names(name.Certificate) + ", not for " + clean(host, 100)
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "TLS: certificate is signed by an unknown authority"
	}
	if _, ok := errors.AsType[x509.SystemRootsError](err); ok {
		return "TLS: this system has no certificate authorities"
	}
	if bad, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if bad.Reason == x509.Expired {
			return outOfDate(bad.Cert, time.Now())
		}
		return "TLS: certificate is not valid"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "TLS: certificate is not valid"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || errors.Is(err, http.ErrSchemeMismatch) {
		return "TLS: the server does not speak TLS on this port"
	}
	if words := alert(err); words != "" {
		return "TLS: the server refuses the handshake (" + words + ")"
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "TLS: connection closed during the handshake"
	}
	if words := systemReason(err); words != "" {
		return "TLS: " + words + " during the handshake"
	}
	return "TLS: handshake failed"
}

// outOfDate says why a certificate is not valid now, which was found a moment
// before: what was over then is over.
func outOfDate(c *x509.Certificate, now time.Time) string {
	if now.After(c.NotAfter) {
		return "TLS: certificate expired at " + c.NotAfter.UTC().Format(time.RFC3339)
	}
	return "TLS: certificate is not valid before " + c.NotBefore.UTC().Format(time.RFC3339)
}

// alert returns the words of the TLS alert that the other side sent; "" when
// err is none. crypto/tls has tls.AlertError for QUIC only.
func alert(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		return strings.TrimPrefix(op.Err.Error(), "tls: ")
	}
	return ""
}

// names lists a certificate's names, which are a stranger's words: bounded and
// printable.
func names(c *x509.Certificate) string {
	all := c.DNSNames
	for _, ip := range c.IPAddresses {
		all = append(all[:len(all):len(all)], ip.String())
	}
	switch {
	case len(all) == 0:
		return "no host"
	case len(all) > 3:
		return clean(strings.Join(all[:3], ", "), 200) + " and others"
	}
	return clean(strings.Join(all, ", "), 200)
}

func clean(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// seconds writes a duration as a person would: "10 s", "0.5 s", "200 ms".
func seconds(d time.Duration) string {
	if d < 100*time.Millisecond {
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	}
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + " s"
}
