package action

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/render"
	"eventhooks/internal/sign"
)

const (
	typeJSON = "application/json"
	typeForm = "application/x-www-form-urlencoded"
)

// Request returns the HTTP request of a hook for an event, exactly as Do would
// send it at the given time. The error says why it cannot be built; no later
// attempt would cure that. It shows nothing of the event.
//
// A hook that was never stored, without an id, is taken for one whose id is all
// zeros.
func (r *Runner) Request(h hook.Hook, ev hook.Event, at time.Time) (hook.Request, error) {
	if !h.Calls() {
		return hook.Request{}, fmt.Errorf("a hook whose handler is %q makes no request", h.Handler)
	}
	p, err := r.plan(h)
	if err != nil {
		return hook.Request{}, err
	}
	var v render.Values
	if p.values {
		if v, err = render.ValuesOf(ev); err != nil {
			return hook.Request{}, errData
		}
	}
	req := hook.Request{Method: http.MethodPost, URL: h.Config.URL, Headers: make(map[string][]string, len(p.headers)+7)}
	for _, hd := range p.headers {
		value, err := hd.render(v)
		if err != nil {
			return hook.Request{}, err
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
		return hook.Request{}, err
	}
	if !p.typed && contentType != "" {
		req.Headers["Content-Type"] = []string{contentType}
	}
	r.ours(req, h, ev, at)
	return req, nil
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
