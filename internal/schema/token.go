package schema

import (
	"strings"

	"eventhooks/internal/hook"
)

const maxTokenSources = 100

func tokenFields(now int64) []field {
	return []field{
		{name: "name", kind: text, required: true, most: maxName, check: plain},
		{name: "scopes", kind: set, required: true, least: 1, elements: &field{
			kind: text, oneOf: []string{hook.ScopeAdmin, hook.ScopeRead, hook.ScopeIngest},
		}},
		{name: "sources", kind: set, least: 1, most: maxTokenSources, elements: &field{kind: text, most: maxEventName, check: eventNameFault}},
		{name: "expires_at", kind: integer, lo: float64(now + 1), hi: 1 << 40},
	}
}

// TokenForm reads tokens from forms.
func TokenForm() Form { return Form{tokenFields(0)} }

// NewToken reads what a new token should be. now is Unix seconds: a token that
// has expired already is a fault. Errors are those of NewHook.
func NewToken(doc []byte, now int64) (hook.Token, error) {
	if err := isObject(doc); err != nil {
		return hook.Token{}, err
	}
	var faults Faults
	fields := tokenFields(now)
	o := readRecord(doc, fields, &faults)
	if v, sent := o["sources"]; sent && v == nil {
		// Whoever sends an empty list, or a form with an empty value, means no
		// source rather than every one.
		faults.Add("expected a set of at least 1; leave it out for every source", "sources")
	}
	complete(o, fields, &faults)
	t := hook.Token{
		Name: o.text("name"), Scopes: o.texts("scopes"), Sources: o.texts("sources"),
		ExpiresAt: o.integer("expires_at"), CreatedAt: now,
	}
	return t, faults.Err()
}

// ShownToken is a token as people read it.
type ShownToken struct {
	ID         string   `json:"id"`
	Name       string   `json:"name"`
	Scopes     []string `json:"scopes"`
	Sources    []string `json:"sources"`
	ExpiresAt  *int64   `json:"expires_at"`
	CreatedAt  int64    `json:"created_at"`
	LastUsedAt *int64   `json:"last_used_at"`
	// Token is the value, which only the answer to the creation shows.
	Token string `json:"token,omitempty"`
}

// ShowToken returns the token as people read it, without its value. lastUsed is
// Unix seconds, 0 for not known.
func ShowToken(t hook.Token, lastUsed int64) ShownToken {
	return ShownToken{
		ID: strings.ToLower(t.ID), Name: t.Name, Scopes: list(t.Scopes), Sources: t.Sources,
		ExpiresAt: orNull(t.ExpiresAt), CreatedAt: t.CreatedAt, LastUsedAt: orNull(lastUsed),
	}
}
