// Package action does what a hook says when an event has happened: one attempt
// of a webhook, a webhook-custom request, a log line or Lua functions. Whether
// an attempt is due, and what follows from its outcome, is for others to say.
package action

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"eventhooks/internal/egress"
	"eventhooks/internal/hook"
	"eventhooks/internal/lua"
	"eventhooks/internal/retry"
)

// Options of a Runner.
type Options struct {
	// Client makes the requests; required, unless Do is never called for a
	// hook that makes any.
	Client *egress.Client
	// Lua runs the functions of lambda hooks, and templates with expressions or
	// statements; required, unless there are none.
	Lua *lua.Pool
	// Log gets the lines of log hooks, each in one Write; default os.Stdout.
	Log io.Writer
	// Version goes into User-Agent; default "dev".
	Version string
	// PID goes into the lines of log hooks; 0 leaves it out. Lua functions get
	// it, or that of this process.
	PID int
}

// Bounds of what is kept of a receiver's answer, beside hook.MaxResponseBytes
// of its body.
const (
	MaxResponseHeaders     = 50
	MaxResponseHeaderBytes = 8 << 10 // of names and values together
)

// Runner makes attempts. It is safe for concurrent use.
type Runner struct {
	o     Options
	agent string // the User-Agent header

	logging sync.Mutex // one line at a time

	mu    sync.Mutex
	plans map[string]*plan // by hook id
}

// maxPlans bounds the plans that are kept: as many as the hooks of a large
// deployment.
const maxPlans = 10_000

// New returns a Runner.
func New(o Options) *Runner {
	if o.Log == nil {
		o.Log = os.Stdout
	}
	if o.Version == "" {
		o.Version = "dev"
	}
	return &Runner{o: o, agent: "eventhooks/" + o.Version, plans: map[string]*plan{}}
}

// Do makes one attempt. at is now: it is signed, and a Retry-After that is a
// date is counted from there. It takes no longer than the hook's timeout, ends
// with ctx, and never panics: what panics inside is that attempt's failure.
// Outcome.Error never shows a URL, a header's value, a body or a secret.
func (r *Runner) Do(ctx context.Context, h hook.Hook, ev hook.Event, at time.Time) (out hook.Outcome) {
	defer func() {
		if p := recover(); p != nil {
			slog.ErrorContext(ctx, "action panicked", "hook_id", h.ID, "event_id", ev.ID, "panic", panicText(p), "stack", string(debug.Stack()))
			out = hook.Outcome{Verdict: hook.Retryable, Error: "internal error: the action panicked"}
		}
	}()
	switch h.Handler {
	case hook.HandlerWebhook, hook.HandlerCustom:
		return r.call(ctx, h, ev, at)
	case hook.HandlerLog:
		return r.log(h, ev)
	case hook.HandlerLambda:
		return r.lambda(ctx, h, ev)
	}
	return unrendered(fmt.Errorf("handler %q is not supported by this version", h.Handler))
}

// panicText says what a panic was without showing what may have come with an
// event: the text of the runtime's own, the type of any other.
func panicText(p any) string {
	if e, ok := p.(runtime.Error); ok {
		return e.Error()
	}
	return fmt.Sprintf("%T", p)
}

// unrendered is the outcome of an attempt whose request could not be built:
// with the same hook and event it never will be.
func unrendered(err error) hook.Outcome {
	return hook.Outcome{Verdict: hook.Final, Reason: hook.ReasonUnrendered, Error: err.Error()}
}

// unbuilt is the outcome of an attempt whose request could not be built.
func unbuilt(err error) hook.Outcome {
	_, later := errors.AsType[*laterError](err)
	switch {
	case errors.Is(err, lua.ErrBusy):
		return hook.Outcome{Verdict: hook.Unmade, Error: err.Error()}
	case later:
		return hook.Outcome{Verdict: hook.Retryable, Error: err.Error()}
	}
	return unrendered(err)
}

// timeout is how long an attempt of a hook may take.
func timeout(h hook.Hook) time.Duration {
	return time.Duration(h.Config.TimeoutSeconds()) * time.Second
}

// call makes the HTTP request of a hook.
func (r *Runner) call(ctx context.Context, h hook.Hook, ev hook.Event, at time.Time) hook.Outcome {
	req, spent, err := r.request(ctx, h, ev, at)
	if err != nil {
		return unbuilt(err)
	}
	answer, err := r.o.Client.Do(ctx, req, egress.Call{
		Timeout:   timeout(h) - spent,
		VerifyTLS: h.Config.SSLVerify,
		MaxBody:   hook.MaxResponseBytes,
	})
	var out hook.Outcome
	if answer != nil {
		out.IP, out.Took = answer.IP, answer.Took
	}
	if err != nil {
		out.Error = err.Error()
		if _, blocked := errors.AsType[*egress.BlockedError](err); blocked {
			out.Verdict, out.Reason = hook.Final, hook.ReasonBlocked
		}
		return out
	}
	out.Code = answer.Code
	out.Response = response(answer)
	out.Verdict, out.Reason = retry.Judge(answer.Code)
	if out.Verdict != hook.Success {
		out.Error = strings.TrimSpace("the receiver answered " + strconv.Itoa(answer.Code) + " " + http.StatusText(answer.Code))
		if answer.Code >= 300 && answer.Code <= 399 {
			out.Error += "; redirects are not followed"
		}
		out.RetryAfter = retry.After(answer.Header.Get("Retry-After"), at.Add(answer.Took))
	}
	return out
}

// response is what is kept of an answer. Cookies are not: they are the
// receiver's sessions, and nobody reads a log for them.
func response(a *egress.Answer) *hook.Response {
	out := &hook.Response{Code: a.Code, Headers: map[string]string{}}
	size := 0
	for _, name := range slices.Sorted(maps.Keys(a.Header)) {
		if name == "Set-Cookie" || name == "Set-Cookie2" {
			continue
		}
		value := strings.ToValidUTF8(strings.Join(a.Header[name], ", "), "\ufffd")
		if n := len(name) + len(value); size+n <= MaxResponseHeaderBytes && len(out.Headers) < MaxResponseHeaders {
			size += n
		} else {
			continue // one long header does not take the others along
		}
		out.Headers[name] = value // Go's client takes only tokens as names
	}
	body := a.Body
	if len(body) > hook.MaxResponseBytes {
		body = body[:hook.MaxResponseBytes]
	}
	out.Body = string(bytes.ToValidUTF8(wholeRunes(body), []byte("\ufffd")))
	if len(out.Body) > hook.MaxResponseBytes { // what replaces a byte is longer than it
		out.Body = string(wholeRunes([]byte(out.Body[:hook.MaxResponseBytes])))
	}
	return out
}

// wholeRunes takes a character that was cut in two off the end of b.
func wholeRunes(b []byte) []byte {
	for i := 1; i < utf8.UTFMax && i <= len(b); i++ {
		if c := b[len(b)-i]; utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(b[len(b)-i:]) {
				return b[:len(b)-i]
			}
			break
		}
	}
	return b
}

// plan returns what the hook's configuration compiles to.
//
// A plan is kept under the hook's id and used as long as it was made of the
// same configuration. Changed alone would not tell: a table that was restored
// from a backup counts its changes a second time.
func (r *Runner) plan(h hook.Hook) (*plan, error) {
	r.mu.Lock()
	p := r.plans[h.ID]
	r.mu.Unlock()
	if p != nil && p.madeOf(h) {
		return p, p.err()
	}
	p = compile(h)
	if h.ID == "" || h.Changed == 0 {
		return p, p.err() // not stored: it will not come again
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.plans[h.ID]; !ok && len(r.plans) >= maxPlans {
		for id := range r.plans { // any: what is needed again is compiled again
			delete(r.plans, id)
			break
		}
	}
	r.plans[h.ID] = p
	return p, p.err()
}
