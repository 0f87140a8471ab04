package kongimport

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"eventhooks/internal/hook"
)

// Bounds of what the other side may send.
const (
	maxAnswer = 4 << 20 // bytes of one answer
	maxPages  = 2_000   // of one list
	maxOffset = 4 << 10 // bytes of a page's offset

	pageSize = 250 // rows that are asked for at once
	maxTries = 4   // of a request that is answered "later"
	maxWait  = 30 * time.Second
)

// api is one side of an import: Kong's Admin API, or that of Event Hooks.
type api struct {
	name   string // as messages call it
	flag   string // that gives its URL
	base   *url.URL
	header string // that carries the token
	scheme string // before the token, with its blank
	token  hook.Secret
	hints  hints
	client *http.Client
	// timeout is of one try, with its answer's body.
	timeout time.Duration
	maxList int // bytes of all answers of one list
	wait    func(context.Context, time.Duration) error
}

// hints are what to do about what goes wrong, each the end of a sentence.
type hints struct {
	down         string // nothing listens
	unauthorized string // 401
	forbidden    string // 403
	absent       string // 404 of a list
	foreign      string // the answer is not of this API
}

// newClient returns a client that follows no redirect: it would take the token
// along, to whatever host the answer names.
func newClient() *http.Client {
	return &http.Client{
		Transport:     http.DefaultTransport.(*http.Transport).Clone(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// baseURL reads the URL that a flag gives.
func baseURL(flag, raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return nil, fmt.Errorf("%s: not an http or https URL; give one like http://127.0.0.1:8001", flag)
	case u.User != nil:
		return nil, fmt.Errorf("%s: a URL with a user in it is not taken; leave that out and give a token", flag)
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("%s: leave out what begins with ? or #; this is the URL that paths are added to", flag)
	}
	return u, nil
}

// answerError is an answer that is not what was asked for.
type answerError struct {
	status int // of HTTP
	text   string
}

func (e *answerError) Error() string { return e.text }

// singular reports whether an error is a word on this one thing only, so that
// the next one may well be answered otherwise.
func singular(err error) bool {
	e, ok := errors.AsType[*answerError](err)
	if !ok || e.status >= 300 && e.status < 400 || e.status >= 500 {
		return false
	}
	switch e.status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
		return false
	}
	return true
}

// list returns the rows of a list, all pages of it.
func (a *api) list(ctx context.Context, path string, query url.Values) ([]json.RawMessage, error) {
	q := url.Values{"size": {strconv.Itoa(pageSize)}}
	for name, values := range query {
		q[name] = values
	}
	endless := func(format string, args ...any) error {
		return &answerError{http.StatusOK, fmt.Sprintf(
			"%s lists %s without end: %s%s", a.name, path, fmt.Sprintf(format, args...), a.elsewhere("GET "+path))}
	}
	var rows []json.RawMessage
	size := 0
	seen := map[string]bool{}
	for range maxPages {
		body, err := a.do(ctx, http.MethodGet, path, q, nil)
		if err != nil {
			return nil, err
		}
		if size += len(body); size > a.maxList {
			return nil, endless("more than %d bytes", a.maxList)
		}
		page, offset, err := readPage(body)
		if err != nil {
			return nil, a.foreign(http.StatusOK, "GET "+path, err.Error())
		}
		rows = append(rows, page...)
		if offset == "" {
			return rows, nil
		}
		if len(offset) > maxOffset {
			return nil, endless("an offset of more than %d bytes", maxOffset)
		}
		if seen[offset] {
			return nil, endless("a page leads back to one before it")
		}
		seen[offset] = true
		q.Set("offset", offset)
	}
	return nil, endless("more than %d pages", maxPages)
}

// readPage reads one page and where the next one begins, "" when there is none.
// Kong once wrote an empty list as {}, and some offsets as numbers.
func readPage(body []byte) (rows []json.RawMessage, offset string, err error) {
	var page struct {
		Data   json.RawMessage `json:"data"`
		Offset json.RawMessage `json:"offset"`
		Next   *string         `json:"next"`
	}
	if err := json.Unmarshal(body, &page); err != nil {
		return nil, "", fmt.Errorf("it is %s, not a page of a list", form(body))
	}
	if string(page.Data) != "{}" {
		if err := json.Unmarshal(page.Data, &rows); err != nil || rows == nil {
			return nil, "", errors.New("it has no list called data")
		}
	}
	switch raw := strings.TrimSpace(string(page.Offset)); {
	case raw == "" || raw == "null":
	case raw[0] == '"':
		if err := json.Unmarshal(page.Offset, &offset); err != nil {
			return nil, "", errors.New("its offset cannot be read")
		}
	default:
		offset = raw
	}
	if offset == "" && page.Next != nil {
		next, err := url.Parse(*page.Next)
		if err != nil || next.Query().Get("offset") == "" {
			return nil, "", errors.New("its next page cannot be read")
		}
		offset = next.Query().Get("offset")
	}
	return rows, offset, nil
}

// do makes a request and returns the answer's body. An answer other than 2xx is
// an *answerError. What is answered "later" is asked again, so the request must
// be one that may be repeated.
func (a *api) do(ctx context.Context, method, path string, query url.Values, doc any) ([]byte, error) {
	var body []byte
	if doc != nil {
		var err error
		if body, err = json.Marshal(doc); err != nil {
			return nil, fmt.Errorf("encode %s: %w", path, err)
		}
	}
	u := a.base.JoinPath(path)
	u.RawQuery = query.Encode()
	backoff := time.Second
	for try := 1; ; try++ {
		answer, later, err := a.try(ctx, method, u, path, body)
		if err == nil || later < 0 || try == maxTries {
			return answer, err
		}
		if err := a.wait(ctx, min(max(later, backoff), maxWait)); err != nil {
			return nil, a.unreachable(ctx, err)
		}
		backoff *= 2
	}
}

// try makes a request once. later is when to try again, at the earliest; less
// than 0 is never.
func (a *api) try(ctx context.Context, method string, u *url.URL, path string, body []byte) (answer []byte, later time.Duration, err error) {
	whole := ctx
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, -1, fmt.Errorf("%s: %w", a.flag, err)
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if !a.token.IsZero() {
		req.Header.Set(a.header, a.scheme+a.token.Reveal())
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, -1, a.unreachable(whole, err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, -1, a.unreachable(whole, err)
	}
	what := method + " " + path
	switch {
	case len(answer) > maxAnswer:
		return nil, -1, a.foreign(resp.StatusCode, what, fmt.Sprintf("it is larger than %d MB", maxAnswer>>20))
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return nil, pause(resp), a.fault(resp, what, answer)
	}
	return answer, -1, nil
}

// pause returns how long an answer asks to wait before the next try, less than
// 0 when there is to be none.
func pause(resp *http.Response) time.Duration {
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return time.Duration(min(max(seconds, 0), int(maxWait/time.Second))) * time.Second
	}
	return -1
}

// fault says what an answer means that is not 2xx.
func (a *api) fault(resp *http.Response, what string, body []byte) error {
	text := fmt.Sprintf("%s answered %d", a.name, resp.StatusCode)
	var e struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &e) == nil && e.Message != "" {
		text += ": " + a.shown(e.Message)
	} else if len(body) > 0 {
		text += " and " + form(body)
	}
	hint := ""
	switch code := resp.StatusCode; {
	case code >= 300 && code < 400:
		to := "elsewhere"
		if loc, err := resp.Location(); err == nil {
			to = shown(loc.Scheme + "://" + loc.Host)
		}
		hint = fmt.Sprintf("it leads to %s, where the token is not taken: name the right URL with %s", to, a.flag)
	case code == http.StatusUnauthorized:
		hint = a.hints.unauthorized
	case code == http.StatusForbidden:
		hint = a.hints.forbidden
	case code == http.StatusNotFound && isFirst(what):
		hint = a.hints.absent
	case e.Message == "" && len(body) > 0 && isFirst(what):
		hint = a.hints.foreign
	case code == http.StatusTooManyRequests || code >= 500:
		hint = "look into its log, and run this again later"
	}
	if hint != "" {
		text += "; " + hint
	}
	return &answerError{resp.StatusCode, text + " (" + what + ")"}
}

// foreign is the error of an answer that such an API does not give.
func (a *api) foreign(status int, what, why string) error {
	return &answerError{status, fmt.Sprintf("%s answered %d with what cannot be read: %s%s (%s)", a.name, status, why, a.elsewhere(what), what)}
}

// isFirst reports whether a request is the first that each side gets. Where it
// was answered the URL is right.
func isFirst(what string) bool { return what == http.MethodGet+" /upstreams" }

// elsewhere asks whether the URL is right, after an answer that cannot be used.
func (a *api) elsewhere(what string) string {
	if isFirst(what) {
		return "; " + a.hints.foreign
	}
	return ""
}

// form says in words what a body is.
func form(body []byte) string {
	switch trimmed := bytes.TrimSpace(body); {
	case len(trimmed) == 0:
		return "empty"
	case trimmed[0] == '<':
		return "HTML"
	case json.Valid(trimmed):
		return "JSON of another kind"
	}
	return "something that is not JSON"
}

// unreachable says why there is no answer, and what to do. whole is the
// context of the import.
func (a *api) unreachable(whole context.Context, err error) error {
	if whole.Err() != nil {
		return fmt.Errorf("stopped: %w", whole.Err())
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // without the URL
	}
	at := a.name + " at " + a.base.Scheme + "://" + a.base.Host
	timeout, isNet := errors.AsType[net.Error](err)
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	_, noName := errors.AsType[*net.DNSError](err)
	_, badCert := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%s refuses the connection; %s: %w", at, a.hints.down, err)
	case noName:
		return fmt.Errorf("%s has no address; check the host in %s: %w", at, a.flag, err)
	case isNet && timeout.Timeout():
		return fmt.Errorf("%s gave no answer within %v; check that %s leads there and nothing is in between: %w", at, a.timeout, a.flag, err)
	case badCert:
		return fmt.Errorf("%s shows a certificate that is not trusted here; set SSL_CERT_FILE to a file with that of its authority: %w", at, err)
	case noTLS, errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("%s does not speak TLS; name its http port in %s, or its https port: %w", at, a.flag, err)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		or := ""
		if a.base.Scheme == "https" {
			or = "; or it does not speak TLS there: try http"
		}
		return fmt.Errorf("%s broke off in the middle of an answer; look whether it still runs, and run this again%s: %w", at, or, err)
	}
	return fmt.Errorf("%s cannot be reached; check %s: %w", at, a.flag, err)
}

// shown is what this side says of itself, as it can be shown.
func (a *api) shown(s string) string {
	if token := a.token.Reveal(); token != "" {
		s = strings.ReplaceAll(s, token, hook.Redacted)
	}
	return shown(cmp.Or(s, "nothing"))
}
