// Package record is the stored form of configuration: how hooks, sources,
// upstreams, targets and tokens become the documents that a store keeps, and
// back.
//
// The documents are versioned JSON. They hold secrets in the clear: only a
// store may see them, and what people read is made by package schema.
package record

import (
	"bytes"
	"encoding/json"
	"fmt"

	"eventhooks/internal/hook"
)

// version is the form's version; a document of a later one is refused, so that
// a function that was rolled back does not misread what a newer one wrote.
const version = 1

type hookDoc struct {
	V              int             `json:"v"`
	CreatedAt      int64           `json:"created_at"`
	UpdatedAt      int64           `json:"updated_at"`
	Source         string          `json:"source"`
	Event          string          `json:"event,omitempty"`
	Handler        string          `json:"handler"`
	OnChange       *bool           `json:"on_change,omitempty"`
	Snooze         *int64          `json:"snooze,omitempty"`
	Config         configDoc       `json:"config"`
	Name           string          `json:"name,omitempty"`
	Enabled        bool            `json:"enabled"`
	DisabledReason string          `json:"disabled_reason,omitempty"`
	Tags           []string        `json:"tags,omitempty"`
	Workspace      string          `json:"workspace,omitempty"`
	Filter         json.RawMessage `json:"filter,omitempty"`
	MaxAttempts    int64           `json:"max_attempts,omitempty"`
	MaxAge         int64           `json:"max_age,omitempty"`
	Gen            int64           `json:"gen,omitempty"`
}

type configDoc struct {
	URL            string            `json:"url,omitempty"`
	Headers        map[string]string `json:"headers,omitempty"`
	Secret         string            `json:"secret,omitempty"`
	SSLVerify      bool              `json:"ssl_verify,omitempty"`
	Timeout        int64             `json:"timeout,omitempty"`
	SignatureAlgo  string            `json:"signature_algorithm,omitempty"`
	Method         string            `json:"method,omitempty"`
	HeadersFormat  bool              `json:"headers_format,omitempty"`
	Payload        json.RawMessage   `json:"payload,omitempty"`
	PayloadFormat  bool              `json:"payload_format,omitempty"`
	Body           *string           `json:"body,omitempty"`
	BodyFormat     bool              `json:"body_format,omitempty"`
	Functions      []string          `json:"functions,omitempty"`
	OldSecret      string            `json:"old_secret,omitempty"`
	OldSecretUntil int64             `json:"old_secret_until,omitempty"`
}

// Hook returns the record of a hook. Its Changed is the store's to set; a hook
// whose Gen is 0 gets its Gen from its first Changed when it is read.
func Hook(h hook.Hook) (hook.Record, error) {
	c := h.Config
	return encode(hook.KindHook, h.ID, hookDoc{
		V: version, CreatedAt: h.CreatedAt, UpdatedAt: h.UpdatedAt,
		Source: h.Source, Event: h.Event, Handler: h.Handler, OnChange: h.OnChange, Snooze: h.Snooze,
		Config: configDoc{
			URL: c.URL, Headers: c.Headers, Secret: c.Secret.Reveal(), SSLVerify: c.SSLVerify,
			Timeout: c.Timeout, SignatureAlgo: c.SignatureAlgo, Method: c.Method,
			HeadersFormat: c.HeadersFormat, Payload: c.Payload, PayloadFormat: c.PayloadFormat,
			Body: c.Body, BodyFormat: c.BodyFormat, Functions: c.Functions,
			OldSecret: c.OldSecret.Reveal(), OldSecretUntil: c.OldSecretUntil,
		},
		Name: h.Name, Enabled: h.Enabled, DisabledReason: h.DisabledReason, Tags: h.Tags,
		Workspace: h.Workspace, Filter: h.Filter, MaxAttempts: h.Retry.MaxAttempts, MaxAge: h.Retry.MaxAge, Gen: h.Gen,
	})
}

// ToHook reads a hook back.
func ToHook(r hook.Record) (hook.Hook, error) {
	var d hookDoc
	if err := decode(r, hook.KindHook, &d, &d.V); err != nil {
		return hook.Hook{}, err
	}
	gen := d.Gen
	if gen == 0 {
		gen = r.Changed // its first write: nothing was there to copy it from
	}
	c := d.Config
	return hook.Hook{
		ID: r.ID, CreatedAt: d.CreatedAt, UpdatedAt: d.UpdatedAt,
		Source: d.Source, Event: d.Event, Handler: d.Handler, OnChange: d.OnChange, Snooze: d.Snooze,
		Config: hook.Config{
			URL: c.URL, Headers: c.Headers, Secret: hook.NewSecret(c.Secret), SSLVerify: c.SSLVerify,
			Timeout: c.Timeout, SignatureAlgo: c.SignatureAlgo, Method: c.Method,
			HeadersFormat: c.HeadersFormat, Payload: c.Payload, PayloadFormat: c.PayloadFormat,
			Body: c.Body, BodyFormat: c.BodyFormat, Functions: c.Functions,
			OldSecret: hook.NewSecret(c.OldSecret), OldSecretUntil: c.OldSecretUntil,
		},
		Name: d.Name, Enabled: d.Enabled, DisabledReason: d.DisabledReason, Tags: d.Tags,
		Workspace: d.Workspace, Filter: d.Filter, Retry: hook.Retry{MaxAttempts: d.MaxAttempts, MaxAge: d.MaxAge},
		Changed: r.Changed, Gen: gen,
	}, nil
}

type sourceDoc struct {
	V           int             `json:"v"`
	Source      string          `json:"source"`
	Event       string          `json:"event"`
	Description string          `json:"description,omitempty"`
	Fields      []string        `json:"fields,omitempty"`
	Unique      []string        `json:"unique,omitempty"`
	Slot        []string        `json:"slot,omitempty"`
	Sample      json.RawMessage `json:"sample,omitempty"`
}

// Source returns the record of a registered source.
func Source(s hook.Source) (hook.Record, error) {
	return encode(hook.KindSource, s.Key(), sourceDoc{
		V: version, Source: s.Source, Event: s.Event, Description: s.Description,
		Fields: s.Fields, Unique: s.Unique, Slot: s.Slot, Sample: s.Sample,
	})
}

// ToSource reads a registered source back.
func ToSource(r hook.Record) (hook.Source, error) {
	var d sourceDoc
	if err := decode(r, hook.KindSource, &d, &d.V); err != nil {
		return hook.Source{}, err
	}
	return hook.Source{
		Source: d.Source, Event: d.Event, Description: d.Description, Fields: d.Fields,
		Unique: d.Unique, Slot: d.Slot, Sample: d.Sample, Changed: r.Changed,
	}, nil
}

type upstreamDoc struct {
	V           int       `json:"v"`
	CreatedAt   int64     `json:"created_at"`
	UpdatedAt   int64     `json:"updated_at"`
	Name        string    `json:"name"`
	HostHeader  string    `json:"host_header,omitempty"`
	Tags        []string  `json:"tags,omitempty"`
	Active      activeDoc `json:"active"`
	RemindEvery int64     `json:"remind_every,omitempty"`
}

type activeDoc struct {
	Type              string              `json:"type"`
	Timeout           float64             `json:"timeout"`
	Concurrency       int64               `json:"concurrency"`
	HTTPPath          string              `json:"http_path"`
	HTTPSVerify       bool                `json:"https_verify_certificate"`
	HTTPSSNI          string              `json:"https_sni,omitempty"`
	Headers           map[string][]string `json:"headers,omitempty"`
	HealthyInterval   float64             `json:"healthy_interval"`
	HealthyStatuses   []int64             `json:"healthy_statuses"`
	Successes         int64               `json:"successes"`
	UnhealthyInterval float64             `json:"unhealthy_interval"`
	UnhealthyStatuses []int64             `json:"unhealthy_statuses"`
	TCPFailures       int64               `json:"tcp_failures"`
	Timeouts          int64               `json:"timeouts"`
	HTTPFailures      int64               `json:"http_failures"`
	GRPCService       string              `json:"grpc_service,omitempty"`
	CertificateDays   int64               `json:"certificate_days,omitempty"`
}

// Upstream returns the record of an upstream.
func Upstream(u hook.Upstream) (hook.Record, error) {
	return encode(hook.KindUpstream, u.ID, upstreamDoc{
		V: version, CreatedAt: u.CreatedAt, UpdatedAt: u.UpdatedAt, Name: u.Name,
		HostHeader: u.HostHeader, Tags: u.Tags, Active: activeDoc(u.Active), RemindEvery: u.RemindEvery,
	})
}

// ToUpstream reads an upstream back.
func ToUpstream(r hook.Record) (hook.Upstream, error) {
	var d upstreamDoc
	if err := decode(r, hook.KindUpstream, &d, &d.V); err != nil {
		return hook.Upstream{}, err
	}
	return hook.Upstream{
		ID: r.ID, CreatedAt: d.CreatedAt, UpdatedAt: d.UpdatedAt, Name: d.Name,
		HostHeader: d.HostHeader, Tags: d.Tags, Active: hook.ActiveCheck(d.Active),
		RemindEvery: d.RemindEvery, Changed: r.Changed,
	}, nil
}

type targetDoc struct {
	V          int      `json:"v"`
	ID         string   `json:"id"`
	UpstreamID string   `json:"upstream_id"`
	CreatedAt  float64  `json:"created_at"`
	UpdatedAt  float64  `json:"updated_at"`
	Target     string   `json:"target"`
	Weight     int64    `json:"weight"`
	Tags       []string `json:"tags,omitempty"`
}

// Target returns the record of a target.
func Target(t hook.Target) (hook.Record, error) {
	return encode(hook.KindTarget, t.Key(), targetDoc{
		V: version, ID: t.ID, UpstreamID: t.UpstreamID, CreatedAt: t.CreatedAt,
		UpdatedAt: t.UpdatedAt, Target: t.Target, Weight: t.Weight, Tags: t.Tags,
	})
}

// ToTarget reads a target back.
func ToTarget(r hook.Record) (hook.Target, error) {
	var d targetDoc
	if err := decode(r, hook.KindTarget, &d, &d.V); err != nil {
		return hook.Target{}, err
	}
	return hook.Target{
		ID: d.ID, UpstreamID: d.UpstreamID, CreatedAt: d.CreatedAt, UpdatedAt: d.UpdatedAt,
		Target: d.Target, Weight: d.Weight, Tags: d.Tags, Changed: r.Changed,
	}, nil
}

type tokenDoc struct {
	V         int      `json:"v"`
	Name      string   `json:"name"`
	Scopes    []string `json:"scopes"`
	Sources   []string `json:"sources,omitempty"`
	ExpiresAt int64    `json:"expires_at,omitempty"`
	CreatedAt int64    `json:"created_at"`
}

// Token returns the record of a token, which the table may forget once the
// token has expired.
func Token(t hook.Token) (hook.Record, error) {
	r, err := encode(hook.KindToken, t.ID, tokenDoc{
		V: version, Name: t.Name, Scopes: t.Scopes, Sources: t.Sources,
		ExpiresAt: t.ExpiresAt, CreatedAt: t.CreatedAt,
	})
	r.ExpiresAt = t.ExpiresAt
	return r, err
}

// ToToken reads a token back.
func ToToken(r hook.Record) (hook.Token, error) {
	var d tokenDoc
	if err := decode(r, hook.KindToken, &d, &d.V); err != nil {
		return hook.Token{}, err
	}
	return hook.Token{
		ID: r.ID, Name: d.Name, Scopes: d.Scopes, Sources: d.Sources,
		ExpiresAt: d.ExpiresAt, CreatedAt: d.CreatedAt,
	}, nil
}

func encode(kind, id string, doc any) (hook.Record, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(doc); err != nil {
		return hook.Record{}, fmt.Errorf("encode %s %s: %w", kind, id, err)
	}
	return hook.Record{Kind: kind, ID: id, Data: bytes.TrimSuffix(b.Bytes(), []byte("\n"))}, nil
}

func decode(r hook.Record, kind string, doc any, v *int) error {
	if r.Kind != kind {
		return fmt.Errorf("decode %s %s: it is a %s", kind, r.ID, r.Kind)
	}
	if err := json.Unmarshal(r.Data, doc); err != nil {
		return fmt.Errorf("decode %s %s: %w", kind, r.ID, err)
	}
	if *v > version {
		return fmt.Errorf("decode %s %s: it is of form %d, this program knows up to %d: deploy the newer version again", kind, r.ID, *v, version)
	}
	return nil
}
