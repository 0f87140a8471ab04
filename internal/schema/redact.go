package schema

import (
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"

	"eventhooks/internal/hook"
)

// View is who reads: some may see less than others.
type View int

const (
	// ForAdmin shows everything but secrets.
	ForAdmin View = iota
	// ForReader also hides path and query of URLs: a chat webhook's path is
	// its password.
	ForReader
)

// redactHeaders returns a copy without the secrets, never nil.
func redactHeaders(headers map[string]string) map[string]string {
	shown := make(map[string]string, len(headers))
	for name, value := range headers {
		if hook.SecretHeader(name) {
			value = hook.Redacted
		}
		shown[name] = value
	}
	return shown
}

// redactURL hides path and query.
func redactURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return hook.Redacted
	}
	if (u.Path == "" || u.Path == "/") && u.RawQuery == "" {
		return raw
	}
	return u.Scheme + "://" + u.Host + "/" + hook.Redacted
}

// leastHidden is how long a text must be to be hidden wherever it stands: what
// is shorter is no secret, and part of too many words.
const leastHidden = 4

// hider replaces what nobody may read back of a hook: its secrets, and for
// readers path and query of its URL.
func hider(h hook.Hook, v View) *strings.Replacer {
	hidden := []string{h.Config.Secret.Reveal(), h.Config.OldSecret.Reveal()}
	for name, value := range h.Config.Headers {
		if hook.SecretHeader(name) {
			hidden = append(hidden, value)
		}
	}
	if u, err := url.Parse(h.Config.URL); err == nil && v == ForReader {
		hidden = append(hidden, u.RequestURI(), u.EscapedPath(), u.Path, u.RawQuery)
	}
	var pairs []string
	for _, text := range slices.SortedFunc(slices.Values(hidden), longestFirst) {
		if len(text) >= leastHidden {
			pairs = append(pairs, text, hook.Redacted)
		}
	}
	return strings.NewReplacer(pairs...)
}

// longestFirst lets a text be hidden before what is part of it.
func longestFirst(a, b string) int { return len(b) - len(a) }

// redactPing hides path and query of the URL in a ping's data, for the hook's
// own page of deliveries; what it cannot read it returns as it is not.
func redactPing(data []byte) json.RawMessage {
	var ping struct {
		Hook map[string]json.RawMessage `json:"event_hooks"`
	}
	var config map[string]json.RawMessage
	if json.Unmarshal(data, &ping) != nil || json.Unmarshal(ping.Hook["config"], &config) != nil {
		return json.RawMessage("{}")
	}
	var raw string
	if json.Unmarshal(config["url"], &raw) == nil {
		config["url"] = marshal(redactURL(raw))
	}
	ping.Hook["config"] = marshal(config)
	return marshal(map[string]any{"event_hooks": ping.Hook})
}

// nothingKept is the fault of a redacted value that stands for nothing.
const nothingKept = `"` + hook.Redacted + `" keeps what is stored, and nothing is`

// keep puts back what a read redacted and a write sent as it was read: the
// stored values. Where nothing is stored that is a fault. written says that
// the secret was sent, or left out where that clears it; anything but a
// redacted one ends a rotation.
func keep(h *hook.Hook, stored *hook.Hook, faults *Faults, written bool) {
	var old hook.Config
	if stored != nil {
		old = stored.Config
	}
	if redacted := h.Config.Secret.Equal(hook.NewSecret(hook.Redacted)); redacted || !written {
		if redacted && old.Secret.IsZero() {
			faults.Add(nothingKept, "config", "secret")
		}
		h.Config.Secret, h.Config.OldSecret, h.Config.OldSecretUntil = old.Secret, old.OldSecret, old.OldSecretUntil
	}
	if strings.Contains(h.Config.URL, hook.Redacted) {
		if old.URL != "" && h.Config.URL == redactURL(old.URL) {
			h.Config.URL = old.URL
		} else {
			faults.Add(nothingKept, "config", "url")
		}
	}
	for name, value := range h.Config.Headers {
		if value != hook.Redacted {
			continue
		}
		if kept, ok := storedValue(old.Headers, name); ok {
			h.Config.Headers[name] = kept
		} else {
			faults.Add(nothingKept, "config", "headers", name)
		}
	}
}

// storedValue returns the value of a header that is stored, perhaps in another
// spelling.
func storedValue[T any](stored map[string]T, name string) (value T, ok bool) {
	if value, ok = stored[name]; ok {
		return value, true
	}
	for _, other := range slices.Sorted(maps.Keys(stored)) {
		if strings.EqualFold(name, other) {
			return stored[other], true
		}
	}
	return value, false
}

// keepUpstream does the same for the headers of an upstream's probes.
func keepUpstream(u *hook.Upstream, stored *hook.Upstream, faults *Faults) {
	var old map[string][]string
	if stored != nil {
		old = stored.Active.Headers
	}
	for name, values := range u.Active.Headers {
		if !slices.Contains(values, hook.Redacted) {
			continue
		}
		if kept, ok := storedValue(old, name); ok && len(values) == 1 {
			u.Active.Headers[name] = kept
		} else {
			faults.Add(nothingKept, "healthchecks", "active", "headers", name)
		}
	}
}
