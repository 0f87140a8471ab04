// Package schema is what people send and read: it reads JSON documents into
// the entities of package hook with Kong's validation, defaults and messages,
// and makes the JSON in which they are shown, without secrets.
//
// It is not the stored form (package record), and it looks nothing up: what
// takes a table to know (a name that is taken, a source that does not exist)
// is for the service to say.
package schema

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"eventhooks/internal/filter"
	"eventhooks/internal/hook"
	"eventhooks/internal/strictjson"
)

// Bounds of a hook, beyond Kong.
const (
	maxName       = 128      // of name, tags; bytes
	maxEventName  = 255      // of source and event: bytes; of workspace: characters, as ingest counts them
	maxTags       = 50       // tags of an entity
	maxURL        = 4096     // bytes
	maxHeaders    = 100      // of one hook
	maxHeaderName = 256      // bytes
	maxHeader     = 8 << 10  // of one header's value; bytes
	maxSecret     = 1024     // bytes
	maxText       = 64 << 10 // of a body; the hook as a whole is bounded too
	maxSnooze     = 365 * 24 * 3600
	maxTimeout    = 30 // seconds
	maxTries      = 50
	maxAge        = 5 * 24 * 3600
)

// handlers are those that exist.
func handlers() []string {
	return []string{hook.HandlerWebhook, hook.HandlerCustom, hook.HandlerLog, hook.HandlerLambda}
}

func hookFields(config []field) []field {
	return []field{
		idField(),
		{name: "created_at", kind: ignored},
		{name: "updated_at", kind: ignored},
		{name: "source", kind: text, required: true, most: maxEventName, check: eventNameFault},
		{name: "event", kind: text, most: maxEventName, check: eventNameFault},
		{name: "handler", kind: text, required: true, most: maxName, check: handlerFault},
		{name: "on_change", kind: boolean},
		{name: "snooze", kind: integer, lo: 0, hi: maxSnooze},
		{name: "config", kind: record, required: true, fields: config},
		{name: "name", kind: text, most: maxName, check: plain},
		{name: "enabled", kind: boolean, def: true},
		{name: "disabled_reason", kind: ignored},
		tagsField(),
		{name: "workspace", kind: text, check: workspaceFault},
		{name: "filter", kind: free, most: filter.MaxBytes, lists: true, examine: filterFaults},
		{name: "retry", kind: record, fields: []field{
			{name: "max_attempts", kind: integer, lo: 1, hi: maxTries},
			{name: "max_age", kind: integer, lo: 1, hi: maxAge},
		}},
		{name: "warnings", kind: ignored},
	}
}

// configFields are the fields of a handler's config; known is false for a
// handler that does not exist.
func configFields(handler string) (fields []field, known bool) {
	value := field{kind: text, most: maxHeader}
	webhook := []field{
		{name: "url", kind: text, required: true, most: maxURL, check: urlFault},
		{name: "headers", kind: mapping, def: object{}, most: maxHeaders, keys: headerNameFault, elements: &value},
		{name: "secret", kind: text, most: maxSecret},
		{name: "old_secret_until", kind: ignored},
		{name: "ssl_verify", kind: boolean, def: true},
		{name: "timeout", kind: integer, lo: 1, hi: maxTimeout},
		{name: "signature_algorithm", kind: text, oneOf: []string{hook.SignatureSHA256, hook.SignatureSHA1}},
	}
	switch handler {
	case hook.HandlerWebhook:
		return webhook, true
	case hook.HandlerCustom:
		return append(webhook,
			field{name: "method", kind: text, required: true, most: 32, check: methodFault},
			field{name: "headers_format", kind: boolean, def: false},
			field{name: "payload", kind: free},
			field{name: "payload_format", kind: boolean, def: true},
			field{name: "body", kind: text, most: maxText},
			field{name: "body_format", kind: boolean, def: true},
		), true
	case hook.HandlerLog:
		return nil, true
	case hook.HandlerLambda:
		return []field{{
			name: "functions", kind: array, required: true, least: 1, most: hook.MaxFunctions,
			elements: &field{kind: text, most: hook.MaxFunctionBytes},
		}}, true
	}
	return nil, false
}

// formFields are the fields of hooks of every handler: those that names of a
// form are read by, which say nothing of the handler.
func formFields() []field {
	custom, _ := configFields(hook.HandlerCustom) // those of webhook, and more
	lambda, _ := configFields(hook.HandlerLambda)
	return hookFields(append(custom, lambda...))
}

func idField() field { return field{name: "id", kind: text, check: uuidFault} }

// withID makes the fields ignore the id that is sent, when there is one
// already.
func withID(fields []field, id string) []field {
	if id == "" {
		return fields
	}
	return append(slices.DeleteFunc(fields, func(f field) bool { return f.name == "id" }), field{name: "id", kind: ignored})
}

func tagsField() field {
	return field{name: "tags", kind: set, most: maxTags, elements: &field{kind: text, most: maxName, check: tagFault}}
}

// HookForm reads hooks from forms.
func HookForm() Form { return Form{formFields()} }

// NewHook reads a whole hook, with defaults for what is not there. stored is
// the hook that it replaces, nil when it replaces none: its secrets stand for
// those that were sent back redacted. A secret that is not sent back, but
// written or left out, ends a rotation.
//
// The hook's id is id, and the one that was sent is ignored; with id "" it is
// the one that was sent, "" for none. What belongs to storing (times, Changed,
// Gen) and DisabledReason are for the caller to set, and what names and values
// of headers, templates and functions may be for a check of the action to say.
// The error is a *strictjson.Error, or *Faults with all else that is wrong:
// beside them the hook is what was right, so that the check can be made all
// the same, and its faults be told with these.
func NewHook(doc []byte, id string, stored *hook.Hook) (hook.Hook, error) {
	return readHook(doc, object{}, id, "", stored)
}

// PatchHook reads changes of a hook: records are merged field by field, all
// else is replaced as a whole, null clears or brings the default back. Fields
// of the config that a new handler does not have are dropped. Errors are those
// of NewHook.
func PatchHook(doc []byte, stored hook.Hook) (hook.Hook, error) {
	return readHook(doc, hookObject(stored), stored.ID, stored.Handler, &stored)
}

func readHook(doc []byte, base object, id, handler string, stored *hook.Hook) (hook.Hook, error) {
	members, err := strictjson.Object(doc, strictjson.Limits{})
	if err != nil {
		return hook.Hook{}, err
	}
	for _, m := range members {
		if m.Name == "handler" && strictjson.Kind(m.Value) == '"' {
			_ = json.Unmarshal(m.Value, &handler)
		}
	}
	config, known := configFields(handler)
	fields := withID(hookFields(config), id)
	for i := range fields { // what it should hold cannot be told: only the handler is at fault
		fields[i].open = fields[i].name == "config" && !known
	}

	var faults Faults
	if old := base.record("config"); old != nil && (stored == nil || handler != stored.Handler) {
		maps.DeleteFunc(old, func(name string, _ any) bool {
			return !slices.ContainsFunc(config, func(f field) bool { return f.name == name })
		})
	}
	sent := readRecord(doc, fields, &faults)
	o := merge(base, sent, fields)
	complete(o, fields, &faults)
	h := toHook(o)
	h.ID = cmp.Or(id, h.ID)
	if !known {
		h.Handler = "" // so that nothing more is said of a config that nobody knows
	}
	if h.Calls() {
		_, written := sent.record("config")["secret"]
		keep(&h, stored, &faults, written || base.record("config") == nil)
	}
	return h, faults.Err()
}

// filterFaults notes what is wrong with a hook's filter, where it is.
func filterFaults(doc []byte, faults *Faults) {
	_, err := filter.Parse(doc)
	if err == nil {
		return
	}
	all, ok := errors.AsType[filter.Errors](err)
	whole, decodeErr := strictjson.Decode(doc, strictjson.Limits{})
	if !ok || len(all) == 0 || decodeErr != nil {
		faults.Add(err.Error())
		return
	}
	for _, f := range all {
		faults.addWhere(whole, f.Text, f.Path)
	}
}

func toHook(o object) hook.Hook {
	c, r := o.record("config"), o.record("retry")
	h := hook.Hook{
		ID: strings.ToLower(o.text("id")), Source: o.text("source"), Event: o.text("event"), Handler: o.text("handler"),
		Name: o.text("name"), Enabled: o.boolean("enabled"), Tags: o.texts("tags"), Workspace: o.text("workspace"),
		Config: hook.Config{
			URL: c.text("url"), Secret: hook.NewSecret(c.text("secret")), SSLVerify: c.boolean("ssl_verify"),
			Timeout: c.integer("timeout"), SignatureAlgo: c.text("signature_algorithm"),
			Method: c.text("method"), HeadersFormat: c.boolean("headers_format"), PayloadFormat: c.boolean("payload_format"),
			Body: c.textOrNil("body"), BodyFormat: c.boolean("body_format"),
			Functions: c.texts("functions"),
		},
		Retry: hook.Retry{MaxAttempts: r.integer("max_attempts"), MaxAge: r.integer("max_age")},
	}
	if v, ok := o["on_change"].(bool); ok {
		h.OnChange = &v
	}
	if v, ok := o["snooze"].(int64); ok {
		h.Snooze = &v
	}
	if pattern, ok := o["filter"].(json.RawMessage); ok {
		h.Filter = pattern
	}
	if payload, ok := c["payload"].(json.RawMessage); ok {
		h.Config.Payload = payload
	}
	if headers := c.record("headers"); len(headers) > 0 {
		h.Config.Headers = make(map[string]string, len(headers))
		for name, value := range headers {
			h.Config.Headers[name], _ = value.(string)
		}
	}
	return h
}

// hookObject is the opposite of toHook.
func hookObject(h hook.Hook) object {
	c := h.Config
	config := object{}
	if h.Calls() {
		headers := make(object, len(c.Headers))
		for name, value := range c.Headers {
			headers[name] = value
		}
		config = object{
			"url": c.URL, "headers": headers, "secret": nonzero(c.Secret.Reveal()), "ssl_verify": c.SSLVerify,
			"timeout": nonzero(c.Timeout), "signature_algorithm": nonzero(c.SignatureAlgo),
		}
	}
	if h.Handler == hook.HandlerCustom {
		config["method"], config["headers_format"] = c.Method, c.HeadersFormat
		config["payload_format"], config["body_format"] = c.PayloadFormat, c.BodyFormat
		if c.Payload != nil {
			config["payload"] = json.RawMessage(c.Payload)
		}
		if c.Body != nil {
			config["body"] = *c.Body
		}
	}
	if h.Handler == hook.HandlerLambda {
		config["functions"] = anys(c.Functions)
	}
	o := object{
		"source": h.Source, "event": nonzero(h.Event), "handler": h.Handler, "config": config,
		"name": nonzero(h.Name), "enabled": h.Enabled, "tags": anys(h.Tags), "workspace": nonzero(h.Workspace),
	}
	if h.OnChange != nil {
		o["on_change"] = *h.OnChange
	}
	if h.Snooze != nil {
		o["snooze"] = *h.Snooze
	}
	if h.Filter != nil {
		o["filter"] = json.RawMessage(h.Filter)
	}
	if h.Retry != (hook.Retry{}) {
		o["retry"] = object{"max_attempts": nonzero(h.Retry.MaxAttempts), "max_age": nonzero(h.Retry.MaxAge)}
	}
	return o
}

// ShownHook is a hook as people read it.
type ShownHook struct {
	ID             string          `json:"id"`
	CreatedAt      int64           `json:"created_at"`
	UpdatedAt      int64           `json:"updated_at"`
	Source         string          `json:"source"`
	Event          *string         `json:"event"`
	Handler        string          `json:"handler"`
	OnChange       *bool           `json:"on_change"`
	Snooze         *int64          `json:"snooze"`
	Config         any             `json:"config"`
	Name           *string         `json:"name"`
	Enabled        bool            `json:"enabled"`
	DisabledReason *string         `json:"disabled_reason"`
	Tags           []string        `json:"tags"`
	Filter         json.RawMessage `json:"filter"` // as it was sent; nil is null
	Retry          *shownRetry     `json:"retry"`
	Workspace      *string         `json:"workspace"`
	// Warnings are set by who answers a write; left out when there are none.
	Warnings []string `json:"warnings,omitempty"`
}

type shownRetry struct {
	MaxAttempts *int64 `json:"max_attempts"`
	MaxAge      *int64 `json:"max_age"`
}

type shownWebhook struct {
	URL                string            `json:"url"`
	Headers            map[string]string `json:"headers"`
	Secret             *string           `json:"secret"`
	OldSecretUntil     *int64            `json:"old_secret_until"`
	SSLVerify          bool              `json:"ssl_verify"`
	Timeout            int64             `json:"timeout"`
	SignatureAlgorithm string            `json:"signature_algorithm"`
}

type shownCustom struct {
	shownWebhook
	Method        string          `json:"method"`
	HeadersFormat bool            `json:"headers_format"`
	Payload       json.RawMessage `json:"payload"` // nil is null
	PayloadFormat bool            `json:"payload_format"`
	Body          *string         `json:"body"`
	BodyFormat    bool            `json:"body_format"`
}

type shownLambda struct {
	Functions []string `json:"functions"`
}

// ShowHook returns the hook as v may see it: never with secrets. The end of a
// rotation's grace is shown as it is stored: that of a grace which is over is
// for the caller to clear before.
func ShowHook(h hook.Hook, v View) ShownHook {
	s := ShownHook{
		ID: h.ID, CreatedAt: h.CreatedAt, UpdatedAt: h.UpdatedAt,
		Source: h.Source, Event: orNull(h.Event), Handler: h.Handler, OnChange: h.OnChange, Snooze: h.Snooze,
		Name: orNull(h.Name), Enabled: h.Enabled, DisabledReason: orNull(h.DisabledReason), Tags: h.Tags,
		Workspace: orNull(h.Workspace), Filter: h.Filter, Config: struct{}{},
	}
	if h.Retry != (hook.Retry{}) {
		s.Retry = &shownRetry{orNull(h.Retry.MaxAttempts), orNull(h.Retry.MaxAge)}
	}
	c := h.Config
	webhook := shownWebhook{
		URL: c.URL, Headers: redactHeaders(c.Headers), SSLVerify: c.SSLVerify,
		Timeout: c.TimeoutSeconds(), SignatureAlgorithm: c.SignatureAlgorithm(), OldSecretUntil: orNull(c.OldSecretUntil),
	}
	if !c.Secret.IsZero() {
		webhook.Secret = orNull(hook.Redacted)
	}
	if v == ForReader {
		webhook.URL = redactURL(c.URL)
	}
	switch h.Handler {
	case hook.HandlerWebhook:
		s.Config = webhook
	case hook.HandlerCustom:
		s.Config = shownCustom{
			shownWebhook: webhook, Method: c.Method, HeadersFormat: c.HeadersFormat,
			Payload: c.Payload, PayloadFormat: c.PayloadFormat, Body: c.Body, BodyFormat: c.BodyFormat,
		}
	case hook.HandlerLambda:
		s.Config = shownLambda{list(c.Functions)}
	}
	return s
}

// PingData returns the data of a ping: the hook, as its admin sees it.
func PingData(h hook.Hook) []byte {
	return marshal(map[string]any{"event_hooks": ShowHook(h, ForAdmin)})
}

// nonzero is v, nil for the zero value, which stands for null.
func nonzero[T comparable](v T) any {
	var zero T
	if v == zero {
		return nil
	}
	return v
}

// orNull is what JSON shows as v, and as null for the zero value.
func orNull[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// marshal encodes what cannot fail: our own types.
func marshal(v any) json.RawMessage {
	b, err := strictjson.Encode(v)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", v, err))
	}
	return b
}
