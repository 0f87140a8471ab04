package action

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/lua"
	"eventhooks/internal/render"
	"eventhooks/internal/sign"
)

const (
	typeJSON = "application/json"
	typeForm = "application/x-www-form-urlencoded"
)

// Request returns the HTTP request of a hook for an event, exactly as Do would
// send it at the given time. The error says why it cannot be built; it shows
// nothing of the event but what a template raised as an error. Only templates
// with Lua take time: at most half the hook's timeout.
//
// A hook that was never stored, without an id, is taken for one whose id is all
// zeros.
func (r *Runner) Request(h hook.Hook, ev hook.Event, at time.Time) (hook.Request, error) {
	req, _, err := r.request(context.Background(), h, ev, at)
	return req, err
}

// request is Request until ctx ends, and says how long templates with Lua took.
// No later attempt would cure its error, unless that is lua.ErrBusy or a
// *laterError.
func (r *Runner) request(ctx context.Context, h hook.Hook, ev hook.Event, at time.Time) (req hook.Request, took time.Duration, err error) {
	if !h.Calls() {
		return hook.Request{}, 0, fmt.Errorf("a hook whose handler is %q makes no request", h.Handler)
	}
	p, err := r.plan(h)
	if err != nil {
		return hook.Request{}, 0, err
	}
	var v render.Values
	if p.values {
		if v, err = render.ValuesOf(ev); err != nil {
			return hook.Request{}, 0, errData
		}
	}
	if len(p.scripts) > 0 {
		begin := time.Now()
		if p, err = r.runScripts(ctx, p, h, ev); err != nil {
			return hook.Request{}, 0, err
		}
		took = time.Since(begin)
	}
	req = hook.Request{Method: http.MethodPost, URL: h.Config.URL, Headers: make(map[string][]string, len(p.headers)+7)}
	for _, hd := range p.headers {
		value, err := hd.render(v)
		if err != nil {
			return hook.Request{}, 0, err
		}
		req.Headers[hd.name] = []string{value}
	}
	contentType := typeJSON
	if h.Handler == hook.HandlerWebhook {
		if req.Body, err = render.Body(ev.Source, ev.Event, ev.Data); err != nil {
			err = errData
		}
	} else {
		if h.Config.Method != "" {
			req.Method = h.Config.Method
		}
		req.Body, contentType, err = p.customBody(v)
	}
	if err != nil {
		return hook.Request{}, 0, err
	}
	if !p.typed && contentType != "" {
		req.Headers["Content-Type"] = []string{contentType}
	}
	r.ours(req, h, ev, at)
	return req, took, nil
}

// laterError is why a request cannot be built now.
type laterError struct{ err error }

func (e *laterError) Error() string { return e.err.Error() }
func (e *laterError) Unwrap() error { return e.err }

// runScripts runs the scripts of a hook's templates, all in one call, and
// returns the plan with what they wrote. Who waits for that leaves the receiver
// half of the hook's timeout.
func (r *Runner) runScripts(ctx context.Context, p *plan, h hook.Hook, ev hook.Event) (*plan, error) {
	if r.o.Lua == nil {
		return nil, &laterError{errors.New("nothing here runs the Lua of templates")}
	}
	ctx, cancel := context.WithTimeout(ctx, timeout(h)/2)
	defer cancel()
	res, err := r.o.Lua.Render(ctx, lua.Rendering{Key: h.ID, Scripts: p.scripts, Data: ev.Data, Event: ev.Event, Source: ev.Source})
	switch {
	case errors.Is(err, lua.ErrBusy):
		return nil, fmt.Errorf("not rendered: %w", err)
	case err != nil:
		return nil, &laterError{fmt.Errorf("render: %w", err)}
	case res.Fault == nil:
		return p.bind(res.Pieces)
	}
	err = fmt.Errorf("render%s: %w", p.place(res.Script), res.Fault)
	if res.Again {
		return nil, &laterError{err}
	}
	return nil, err
}

// place says where the n-th script is, for an error.
func (p *plan) place(n int) string {
	if n < 0 {
		return ""
	}
	for _, hd := range p.headers {
		if hd.tmpl != nil && hd.tmpl.Script() != nil {
			if n == 0 {
				return " header " + hd.name
			}
			n--
		}
	}
	if p.body != nil {
		return " body"
	}
	return " payload"
}

// ours sets the headers that every request carries, over the hook's own.
func (r *Runner) ours(req hook.Request, h hook.Hook, ev hook.Event, at time.Time) {
	id := hook.DeliveryKey{HookID: cmp.Or(h.ID, unstoredID), EventID: ev.ID}.WebhookID()
	req.Headers["User-Agent"] = []string{r.agent}
	req.Headers[sign.HeaderID] = []string{id}
	req.Headers[sign.HeaderTimestamp] = []string{strconv.FormatInt(at.Unix(), 10)}
	if ev.Traceparent != "" && isPrintable(ev.Traceparent) {
		req.Headers["Traceparent"] = []string{ev.Traceparent}
	}
	// While a secret is being replaced, webhook-signature is of both, for
	// receivers that know either. x-kong-signature holds one, which stays that
	// of the old secret until the end: its receivers change over last.
	old, rotating := h.Config.Rotating(at.Unix())
	if s := sign.Standard(h.Config.Secret, id, at, req.Body, old); s != "" {
		req.Headers[sign.HeaderStandard] = []string{s}
	}
	kong := h.Config.Secret
	if rotating {
		kong = old
	}
	if s := sign.Kong(kong, h.Config.SignatureAlgorithm(), req.Body); s != "" {
		req.Headers[sign.HeaderKong] = []string{s}
	}
}

// unstoredID stands for the id of a hook that was never stored.
const unstoredID = "00000000-0000-0000-0000-000000000000"

// customBody returns the body of a webhook-custom request, and the content
// type it has unless the hook names one; "" for none. body wins over payload;
// a payload is JSON where the hook's content type is, otherwise a form. With
// neither, the request has no body.
func (p *plan) customBody(v render.Values) (body []byte, contentType string, err error) {
	switch {
	case p.config.Body != nil && p.body == nil:
		return p.plain, "", nil
	case p.body != nil:
		body, err = p.body.Append(nil, v)
		if err != nil {
			err = fmt.Errorf("render body: %w", err)
		}
		return body, "", err
	case p.payload == nil:
		return nil, "", nil
	case p.json:
		body, err = p.payload.AppendJSON(nil, v)
	default:
		body, err = p.payload.AppendForm(nil, v)
	}
	if err != nil {
		err = fmt.Errorf("render payload: %w", err)
	}
	return body, typeForm, err
}

// errData: the event's data is no object that everybody reads alike. ingest
// lets none through.
var errData = errors.New("the event's data is not a JSON object")
