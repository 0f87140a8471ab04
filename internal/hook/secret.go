package hook

import (
	"crypto/subtle"
	"strings"
)

// Redacted stands for a secret in everything that is shown.
const Redacted = "[redacted]"

// Secret is a string that must not be seen. Whatever prints, logs or marshals
// it shows Redacted; Reveal is the one word to search for. The zero value is
// no secret.
type Secret struct{ value string }

// NewSecret wraps a secret value.
func NewSecret(value string) Secret { return Secret{value} }

// Reveal returns the value itself.
func (s Secret) Reveal() string { return s.value }

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s.value == "" }

// Equal compares in constant time.
func (s Secret) Equal(o Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.value), []byte(o.value)) == 1
}

func (s Secret) String() string   { return Redacted }
func (s Secret) GoString() string { return Redacted }

// MarshalText shows Redacted. slog's JSON handler and encoding/json use it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// SecretHeader reports whether a header's value is a secret, which its name
// tells.
func SecretHeader(name string) bool {
	name = strings.ToLower(name)
	switch name {
	case "authorization", "proxy-authorization", "cookie", "set-cookie":
		return true
	}
	return strings.Contains(name, "key") || strings.Contains(name, "token") || strings.Contains(name, "secret")
}
