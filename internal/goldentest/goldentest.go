// Package goldentest plays conversations: text files that hold requests and
// what they should be answered, and what a receiver should get in between. Any
// server can be played to, so that one file says the same of a service alone,
// of the whole system on one machine and of the built functions; and adding a
// case needs no Go.
//
// A file begins with a server that has nothing stored, and goes from the top
// to the bottom:
//
//	# A comment: a line that begins with "# ", anywhere.
//	-- POST /event-hooks --
//	Token: read                      headers of the request
//
//	{"source": "crud"}               its body
//	-- want 201 --
//	ETag: <etag v1>                  headers of the answer that are looked at
//
//	{"id": "<uuid h1>", "...": 1}    its body; nothing for any
//
// # Requests
//
// A request is sent as admin, unless it says `Token: read`, which stands for
// `Authorization: Bearer ${read_token}`, or `Token: none`. It is JSON unless
// Content-Type says otherwise. A header without a value is not sent. Of a form
// (application/x-www-form-urlencoded) the lines are joined by "&"; the lines
// of a multipart body end with CR and LF, as they do on the wire. A body that
// begins with "|" is repeated as often as it says: "|300 x" is 300 times x.
//
// `-- want 200 soon --` repeats the request until the answer is what is wanted,
// for what the server does in its own time. It should be one that only reads.
//
// # What is wanted
//
// Everything that is not wanted is a failure, everything that is wanted and
// not there as well. A member "..." allows members that are not wanted, a last
// element "..." further elements; numbers are compared by their value, to the
// last digit. A body that does not begin as JSON is compared as text. A header
// that is wanted without a value is not there.
//
// A text in angle brackets stands for any value of a kind: <any>, <uuid>,
// <int> (a number), <text> (at least one character), <time> (RFC 3339, UTC),
// <token>, <etag>, <offset>. All but <any> and <int> may be a part of a text:
// "<uuid>_x". A name after the kind, <uuid h1>, keeps the value, and ${h1} is
// replaced by it wherever it follows: in paths, headers, bodies and wants.
//
// # The receiver
//
// ${receiver} is the base URL of a server of the conversation's own. It
// answers 200 and nothing else, unless told before how to answer the next
// request:
//
//	-- receiver answers 503 --
//	Content-Type: text/plain
//
//	try later
//
// What it got is told in the order of each path:
//
//	-- received POST /hook --
//	x-kong-signature: <hmac-sha256 topsecret>
//
//	{"source": "crud", "event": "consumers", "...": 1}
//
// waits for the next request for /hook, query included, and compares it as an
// answer is compared. In its headers <hmac-sha256 key> and <hmac-sha1 key> stand
// for Kong's signature of what arrived, "sha256=" and the HMAC in hexadecimal,
// and <v1 key> for that of Standard Webhooks. A request that arrived and no
// section tells of is a failure, and so is an answer that nobody asked for.
//
// Test support: imported by _test.go files only.
package goldentest

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Server is what a conversation is held with.
type Server struct {
	// Do sends a request and returns its answer: an http.Client's Do, or
	// Handler's. Required.
	Do func(*http.Request) (*http.Response, error)
	// URL stands before every path; "" means http://localhost.
	URL string
	// Vars are the variables that the conversation begins with. admin_token is
	// the token of requests that name no other.
	Vars map[string]string
	// Answered, unless nil, hears of every answer.
	Answered func(method, path string, status int, body []byte)
	// Work, unless nil, does what is there to be done, for a system that does
	// nothing by itself; it is called while something is waited for.
	Work func()
	// Patience bounds each wait for what should happen soon; 0 means 30 s.
	Patience time.Duration
}

// Handler returns a Server's Do that asks a handler, without a network.
func Handler(h http.Handler) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		in := httptest.NewRequestWithContext(r.Context(), r.Method, r.URL.RequestURI(), r.Body)
		in.Header, in.Host, in.ContentLength = r.Header.Clone(), r.Host, r.ContentLength
		w := httptest.NewRecorder()
		h.ServeHTTP(w, in)
		return w.Result(), nil
	}
}

// Run plays each file whose name fits the pattern, in a subtest of its own, to
// a server of its own. The function that makes it may make the subtest
// parallel.
func Run(t *testing.T, pattern string, server func(t *testing.T) Server) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no conversations in %s: %v", pattern, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			s := server(t)
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := Play(t.Context(), file, string(text), s); err != nil {
				t.Error(err)
			}
		})
	}
}

// Play plays one conversation, named name, to a server. The error tells where
// it went otherwise than the text says, and where the text cannot be read; it
// ends at the first answer with another status, since what follows depends on
// it.
func Play(ctx context.Context, name, text string, s Server) error {
	sections, err := parse(text)
	if err != nil {
		return fmt.Errorf("%s:%w", name, err)
	}
	p := &player{server: s, vars: map[string]string{}}
	maps.Copy(p.vars, s.Vars)
	if p.server.Patience == 0 {
		p.server.Patience = 30 * time.Second
	}
	if strings.Contains(text, "${receiver}") {
		p.receiver = newReceiver()
		defer p.receiver.Close()
		p.vars["receiver"] = p.receiver.URL
	}
	var errs []error
	for _, sec := range sections {
		err := p.play(ctx, sec)
		if err == nil {
			continue
		}
		errs = append(errs, fmt.Errorf("%s:%d: %w", name, sec.line, err))
		if _, goesOn := errors.AsType[difference](err); !goesOn {
			return errors.Join(errs...)
		}
	}
	if p.receiver != nil {
		if left := p.receiver.left(); left != "" {
			errs = append(errs, fmt.Errorf("%s: at the end: %s", name, left))
		}
	}
	return errors.Join(errs...)
}

// difference is an error after which a conversation goes on: what was said is
// not what was wanted, but the next may be.
type difference struct{ text string }

func (d difference) Error() string { return d.text }

type player struct {
	server   Server
	vars     map[string]string
	receiver *receiver
}

func (p *player) play(ctx context.Context, sec section) error {
	switch sec.kind {
	case kindRequest:
		return p.exchange(ctx, sec)
	case kindReceived:
		return p.received(ctx, sec)
	default:
		return p.answers(sec)
	}
}

// exchange makes a request and compares its answer, again and again where that
// is wanted soon.
func (p *player) exchange(ctx context.Context, sec section) error {
	if !sec.want.soon {
		return p.once(ctx, sec)
	}
	var err error
	if !p.eventually(ctx, func() bool { err = p.once(ctx, sec); return err == nil }) {
		return fmt.Errorf("waited %v: %w", p.server.Patience, err)
	}
	return nil
}

// once makes a request and compares its answer.
func (p *player) once(ctx context.Context, sec section) error {
	path, err := p.fill(sec.path)
	if err != nil {
		return err
	}
	header, err := p.header(sec.header)
	if err != nil {
		return err
	}
	body, err := p.fill(strings.TrimSpace(sec.body))
	if err != nil {
		return err
	}
	if body, err = wire(body, header.Get("Content-Type")); err != nil {
		return err
	}
	url := p.server.URL
	if url == "" {
		url = "http://localhost"
	}
	r, err := http.NewRequestWithContext(ctx, sec.method, url+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header = header
	if body == "" && !names(sec.header, "Content-Type") {
		r.Header.Del("Content-Type")
	}
	resp, err := p.server.Do(r)
	if err != nil {
		return err
	}
	got, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return err
	}
	if p.server.Answered != nil {
		p.server.Answered(sec.method, path, resp.StatusCode, got)
	}
	where := sec.method + " " + path
	if resp.StatusCode != sec.want.status {
		return fmt.Errorf("%s = %d; want %d\n\tanswer: %s", where, resp.StatusCode, sec.want.status, got)
	}
	if resp.StatusCode == http.StatusNoContent && len(got) > 0 {
		return difference{where + " = 204 with a body: " + string(got)}
	}
	return p.compare(where, resp.Header, got, sec.want.header, sec.want.body)
}

// header returns the headers of a request.
func (p *player) header(lines [][2]string) (http.Header, error) {
	h := http.Header{}
	h.Set("Content-Type", "application/json")
	if !names(lines, "Token") {
		lines = append([][2]string{{"Token", "admin"}}, lines...)
	}
	for _, line := range lines {
		name, value := line[0], line[1]
		if name == "Token" {
			if value == "none" {
				continue
			}
			name, value = "Authorization", "Bearer ${"+value+"_token}"
		}
		value, err := p.fill(value)
		if err != nil {
			return nil, err
		}
		h.Set(name, value)
		if value == "" {
			h.Del(name)
		}
	}
	return h, nil
}

// wire returns a request's body as it is sent.
func wire(body, contentType string) (string, error) {
	switch {
	case strings.HasPrefix(body, "|"):
		times, text, _ := strings.Cut(body[1:], " ")
		n, err := strconv.Atoi(times)
		if err != nil || text == "" {
			return "", fmt.Errorf("a body that is repeated is |times text, not %s", body)
		}
		return strings.Repeat(text, n), nil
	case strings.HasPrefix(contentType, "application/x-www-form-urlencoded"):
		return strings.ReplaceAll(body, "\n", "&"), nil
	case strings.HasPrefix(contentType, "multipart/"):
		return strings.ReplaceAll(body, "\n", "\r\n") + "\r\n", nil
	}
	return body, nil
}

// received waits for the next request of a path and compares it.
func (p *player) received(ctx context.Context, sec section) error {
	if p.receiver == nil {
		return errors.New("nobody was told of ${receiver}")
	}
	path, err := p.fill(sec.path)
	if err != nil {
		return err
	}
	var got arrival
	var there bool
	p.eventually(ctx, func() bool { got, there = p.receiver.next(path); return there })
	if !there {
		return fmt.Errorf("waited %v: nothing arrived at %s (%s)", p.server.Patience, path, p.receiver.left())
	}
	where := "received " + got.method + " " + path
	if got.method != sec.method {
		return difference{where + "; want " + sec.method}
	}
	wanted := make([][2]string, len(sec.header))
	for i, h := range sec.header {
		value, err := p.fill(h[1])
		if err != nil {
			return err
		}
		wanted[i] = [2]string{h[0], got.sign(value)}
	}
	return p.compare(where, got.header, got.body, wanted, sec.body)
}

// sign replaces what stands for a signature of what arrived.
func (a arrival) sign(text string) string {
	return signature.ReplaceAllStringFunc(text, func(wanted string) string {
		m := signature.FindStringSubmatch(wanted)
		key := m[2]
		switch m[1] {
		case "hmac-sha1":
			return "sha1=" + hex.EncodeToString(sum(sha1.New, key, a.body))
		case "hmac-sha256":
			return "sha256=" + hex.EncodeToString(sum(sha256.New, key, a.body))
		}
		if encoded, ok := strings.CutPrefix(key, "whsec_"); ok {
			raw, err := base64.StdEncoding.DecodeString(encoded)
			if err != nil {
				return wanted
			}
			key = string(raw)
		}
		signed := a.header.Get("webhook-id") + "." + a.header.Get("webhook-timestamp") + "." + string(a.body)
		return "v1," + base64.StdEncoding.EncodeToString(sum(sha256.New, key, []byte(signed)))
	})
}

func sum(algorithm func() hash.Hash, key string, text []byte) []byte {
	mac := hmac.New(algorithm, []byte(key))
	mac.Write(text)
	return mac.Sum(nil)
}

// answers tells the receiver how to answer its next request.
func (p *player) answers(sec section) error {
	if p.receiver == nil {
		return errors.New("nobody was told of ${receiver}")
	}
	a := reply{status: sec.status, header: map[string]string{}}
	for _, h := range sec.header {
		value, err := p.fill(h[1])
		if err != nil {
			return err
		}
		a.header[h[0]] = value
	}
	body, err := p.fill(strings.TrimSpace(sec.body))
	if err != nil {
		return err
	}
	a.body = body
	p.receiver.answer(a)
	return nil
}

// eventually asks until the answer is yes, and says whether it ever was.
func (p *player) eventually(ctx context.Context, ask func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, p.server.Patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if p.server.Work != nil {
			p.server.Work()
		}
		if ask() {
			return true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}

// fill replaces the variables in a text.
func (p *player) fill(text string) (string, error) {
	var unknown string
	text = variable.ReplaceAllStringFunc(text, func(v string) string {
		value, ok := p.vars[v[2:len(v)-1]]
		if !ok {
			unknown = v
		}
		return value
	})
	if unknown != "" {
		return "", fmt.Errorf("%s has no value", unknown)
	}
	return text, nil
}

// names reports whether one of the headers has the name.
func names(lines [][2]string, name string) bool {
	for _, line := range lines {
		if strings.EqualFold(line[0], name) {
			return true
		}
	}
	return false
}
