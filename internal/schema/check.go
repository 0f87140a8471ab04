package schema

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"eventhooks/internal/hook"
)

// What a text may be. Each returns its fault, "" for none.

// urlFault accepts what Kong's url type does, and no more: http or https, a
// host, no user info. A redacted URL is for keep to judge.
func urlFault(raw string) string {
	if strings.Contains(raw, hook.Redacted) {
		return ""
	}
	u, err := url.Parse(raw)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // without the URL
		}
		return "could not parse url. " + err.Error()
	}
	port, portErr := strconv.Atoi(u.Port())
	switch {
	case u.Hostname() == "":
		return "missing host in url"
	case u.Scheme == "":
		return "missing scheme in url"
	case u.Scheme != "http" && u.Scheme != "https":
		return "scheme must be http or https"
	case u.User != nil:
		return "must not contain user info"
	case u.Port() != "" && (portErr != nil || port < 1 || port > 65535):
		return "could not parse url. invalid port"
	}
	return ""
}

func methodFault(s string) string {
	for _, r := range s {
		if r < 'A' || r > 'Z' {
			return "invalid value: " + s
		}
	}
	if s == http.MethodConnect { // it asks for a tunnel, not for an answer
		return "invalid value: " + s
	}
	return ""
}

// headerNameFault bounds the name of a hook's header. What it may be is for the
// check of the action to say, and so with its value.
func headerNameFault(name string) string {
	if len(name) > maxHeaderName {
		return fmt.Sprintf("length must be at most %d", maxHeaderName)
	}
	return ""
}

// headerValueFault is for headers of probes.
func headerValueFault(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return isControl(r) && r != '\t' }) {
		return "must not contain control characters"
	}
	return ""
}

func tagFault(s string) string {
	if strings.ContainsAny(s, ",/") || strings.ContainsFunc(s, isControl) {
		return fmt.Sprintf("invalid tag '%s': expected printable ascii (except `,` and `/`) or valid utf-8 sequences", s)
	}
	return ""
}

// plain is for names that a person reads.
func plain(s string) string {
	if strings.ContainsFunc(s, isControl) {
		return "must not contain control characters"
	}
	return ""
}

// eventNameFault is for sources and events: ingest takes no others, so that a
// hook of such a name would never be told of anything.
func eventNameFault(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return isControl(r) || r == '/' }) {
		return "must not contain a slash or a control character"
	}
	return ""
}

// workspaceFault bounds a workspace's name as ingest does.
func workspaceFault(s string) string {
	if utf8.RuneCountInString(s) > maxEventName {
		return fmt.Sprintf("length must be at most %d", maxEventName)
	}
	return plain(s)
}

// handlerFault is Kong's fault of the field that says what the config is.
func handlerFault(s string) string {
	if slices.Contains(handlers(), s) {
		return ""
	}
	return "unknown type: " + s + "; expected one of: " + strings.Join(handlers(), ", ")
}

func uuidFault(s string) string {
	if _, ok := UUID(s); !ok {
		return "expected a valid UUID"
	}
	return ""
}

// UUID returns an id in lower case, and whether it is a UUID of 36 characters.
func UUID(s string) (string, bool) {
	if len(s) != 36 {
		return "", false
	}
	for i := range len(s) {
		switch c := s[i] | 0x20; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if s[i] != '-' {
				return "", false
			}
		case s[i] >= '0' && s[i] <= '9', c >= 'a' && c <= 'f':
		default:
			return "", false
		}
	}
	return strings.ToLower(s), true
}

// isToken reports whether s is a token of RFC 9110, as a header's name is.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		alnum := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !alnum && !strings.Contains("!#$%&'*+-.^_`|~", string(rune(c))) {
			return false
		}
	}
	return s != ""
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }
