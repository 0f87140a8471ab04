// Package env reads a function's settings from its environment. Whatever is
// missing or wrong is noted, not returned, so that one start tells all of it
// at once:
//
//	e := env.New(os.LookupEnv)
//	table, waits := e.String("CONFIG_TABLE"), e.Schedule("RETRY_SCHEDULE")
//	if err := e.Err(); err != nil { ... } // CONFIG_TABLE is not set; RETRY_SCHEDULE: wait 2 of ...
//
// The names are those of template.yaml; a test compares them.
package env

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"eventhooks/internal/retry"
)

// Settings reads settings and keeps what was wrong with them. A setting that
// is set to nothing but spaces counts as not set. Not for concurrent use.
type Settings struct {
	lookup func(string) (string, bool)
	faults []string
}

// New returns settings read with lookup, which is os.LookupEnv or a test's.
func New(lookup func(name string) (value string, ok bool)) *Settings {
	return &Settings{lookup: lookup}
}

// Err returns one error that tells everything that was missing or wrong so
// far, in the order in which it was asked for; nil when nothing was.
func (s *Settings) Err() error {
	if len(s.faults) == 0 {
		return nil
	}
	return errors.New(strings.Join(s.faults, "; "))
}

// String returns a setting that must be there.
func (s *Settings) String(name string) string {
	v := s.value(name)
	if v == "" {
		s.note(name + " is not set")
	}
	return v
}

// Bool returns a setting that is true or false, or def when it is not set.
func (s *Settings) Bool(name string, def bool) bool {
	v := s.value(name)
	if v == "" {
		return def
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		s.note(fmt.Sprintf("%s: %q is neither true nor false", name, v))
	}
	return b
}

// OneOf returns a setting that is one of the given values. The first is the
// default.
func (s *Settings) OneOf(name string, values ...string) string {
	v := s.value(name)
	if v == "" {
		return values[0]
	}
	if !slices.Contains(values, v) {
		s.note(fmt.Sprintf("%s: %q is not one of %s", name, v, strings.Join(values, ", ")))
	}
	return v
}

// Schedule returns a setting that is a retry schedule, or retry.Default when
// it is not set.
func (s *Settings) Schedule(name string) retry.Schedule {
	v := s.value(name)
	if v == "" {
		return retry.Default()
	}
	waits, err := retry.Parse(v)
	if err != nil {
		s.note(fmt.Sprintf("%s: %v", name, err))
	}
	return waits
}

// Prefixes returns a setting that is a list of address ranges in CIDR form,
// separated by commas; none when it is not set. A range with bits set beyond
// its length is a mistake more often than it is meant, so it is refused.
func (s *Settings) Prefixes(name string) []netip.Prefix {
	v := s.value(name)
	if v == "" {
		return nil
	}
	var out []netip.Prefix
	for part := range strings.SplitSeq(v, ",") {
		part = strings.TrimSpace(part)
		p, err := netip.ParsePrefix(part)
		switch {
		case err != nil:
			s.note(fmt.Sprintf("%s: %q is not an address range such as 10.0.0.0/8", name, part))
		case p != p.Masked():
			s.note(fmt.Sprintf("%s: %q has address bits beyond its length, %s does not", name, part, p.Masked()))
		default:
			out = append(out, p)
		}
	}
	return out
}

// KMSKey returns a setting that is the ARN of a key of KMS, or of an alias; ""
// when it is not set.
func (s *Settings) KMSKey(name string) string {
	v := s.value(name)
	if v == "" {
		return ""
	}
	parts := strings.Split(v, ":") // arn:aws:kms:region:account:key/id
	ok := len(parts) == 6 && parts[0] == "arn" && parts[2] == "kms" && parts[3] != "" && parts[4] != ""
	if !ok || len(parts[5]) < len("key/x") || (!strings.HasPrefix(parts[5], "key/") && !strings.HasPrefix(parts[5], "alias/")) {
		s.note(fmt.Sprintf("%s: %q is not the ARN of a KMS key or alias", name, v))
	}
	return v
}

// Address returns a setting that is a host and a port, or those of the URL when
// it is not set.
func (s *Settings) Address(name, fallback string) string {
	v := s.value(name)
	if v == "" {
		u, err := url.Parse(fallback)
		if err != nil || u.Host == "" {
			return "" // what is wrong with the URL is said where it is set
		}
		port := u.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
		}
		return net.JoinHostPort(u.Hostname(), port)
	}
	host, port, err := net.SplitHostPort(v)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || host == "" || perr != nil || n == 0 {
		s.note(fmt.Sprintf("%s: %q is not a host and a port such as sqs.eu-central-1.amazonaws.com:443", name, v))
	}
	return v
}

func (s *Settings) value(name string) string {
	v, _ := s.lookup(name)
	return strings.TrimSpace(v)
}

// note keeps a fault, once.
func (s *Settings) note(fault string) {
	if !slices.Contains(s.faults, fault) {
		s.faults = append(s.faults, fault)
	}
}
