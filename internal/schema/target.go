package schema

import (
	"cmp"
	"encoding/json"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"eventhooks/internal/hook"
)

// Bounds of a target.
const (
	maxWeight   = 65535
	defaultPort = 8000 // of a target that names none, as Kong
)

func targetFields() []field {
	return []field{
		idField(),
		{name: "created_at", kind: ignored},
		{name: "updated_at", kind: ignored},
		{name: "upstream", kind: ignored},
		{name: "target", kind: text, required: true, most: maxHost + len("[]:65535"), check: targetFault},
		{name: "weight", kind: integer, lo: 0, hi: maxWeight, def: int64(100)},
		tagsField(),
		{name: "failover", kind: fixed, only: `false`},
	}
}

// TargetForm reads targets from forms.
func TargetForm() Form { return Form{targetFields()} }

// NewTarget reads a whole target, in Kong's form with a port; upstream, times
// and Changed are the caller's. id is as for NewHook, and so are the errors.
// address, unless empty, stands for the target that was sent.
func NewTarget(doc []byte, id, address string) (hook.Target, error) {
	return readTarget(doc, object{}, id, address)
}

// PatchTarget reads changes of a target, as PatchHook does.
func PatchTarget(doc []byte, stored hook.Target) (hook.Target, error) {
	return readTarget(doc, object{"target": stored.Target, "weight": stored.Weight, "tags": anys(stored.Tags)}, stored.ID, "")
}

func readTarget(doc []byte, base object, id, address string) (hook.Target, error) {
	if err := isObject(doc); err != nil {
		return hook.Target{}, err
	}
	var faults Faults
	fields := withID(targetFields(), id)
	sent := readRecord(doc, fields, &faults)
	if address != "" {
		sent["target"] = address
		if fault := targetFault(address); fault != "" {
			faults.Add(fault, "target")
		}
	}
	o := merge(base, sent, fields)
	complete(o, fields, &faults)
	t := hook.Target{
		ID: cmp.Or(id, strings.ToLower(o.text("id"))), Target: o.text("target"), Weight: o.integer("weight"), Tags: o.texts("tags"),
	}
	if full, ok := TargetAddress(t.Target); ok {
		t.Target = full
	}
	return t, faults.Err()
}

// ShownTarget is a target as people read it.
type ShownTarget struct {
	ID        string      `json:"id"`
	CreatedAt json.Number `json:"created_at"`
	UpdatedAt json.Number `json:"updated_at"`
	Upstream  shownRef    `json:"upstream"`
	Target    string      `json:"target"`
	Weight    int64       `json:"weight"`
	Tags      []string    `json:"tags"`
}

type shownRef struct {
	ID string `json:"id"`
}

// ShowTarget returns the target as people read it.
func ShowTarget(t hook.Target) ShownTarget {
	return ShownTarget{
		ID: t.ID, CreatedAt: millis(t.CreatedAt), UpdatedAt: millis(t.UpdatedAt), Upstream: shownRef{t.UpstreamID},
		Target: t.Target, Weight: t.Weight, Tags: t.Tags,
	}
}

// millis writes seconds with three digits, never with an exponent.
func millis(seconds float64) json.Number {
	return json.Number(strconv.FormatFloat(seconds, 'f', 3, 64))
}

// TargetAddress returns host:port of a target: what was sent may be a host or
// an address alone, then the port is 8000. An IPv6 address is put in brackets.
// false when it is neither.
func TargetAddress(s string) (string, bool) {
	bare := s
	if inner, ok := strings.CutPrefix(s, "["); ok && strings.HasSuffix(inner, "]") {
		bare = strings.TrimSuffix(inner, "]")
	}
	if addr, err := netip.ParseAddr(bare); err == nil && addr.Zone() == "" {
		return net.JoinHostPort(addr.String(), strconv.Itoa(defaultPort)), true
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = s, strconv.Itoa(defaultPort)
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < 1 || n > 65535 || strconv.Itoa(n) != port {
		return "", false
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return net.JoinHostPort(addr.String(), port), addr.Zone() == ""
	}
	if !isHostname(host) {
		return "", false
	}
	return net.JoinHostPort(host, port), true
}

// TargetIP returns the IP that an address of a target names, which is ip:port,
// IPv6 in brackets, as probe states and events write it. The error is a *Faults
// of the field "address": it is none, or none that the target could have.
func TargetIP(address string, t hook.Target) (string, error) {
	var faults Faults
	at, err := netip.ParseAddrPort(address)
	ip := at.Addr().Unmap()
	host, port, _ := net.SplitHostPort(t.Target)
	literal, literalErr := netip.ParseAddr(host)
	switch {
	case err != nil || ip.Zone() != "":
		faults.Add("expected an IP address and a port, such as 10.0.0.5:8000 or [2001:db8::5]:8000", "address")
	case strconv.Itoa(int(at.Port())) != port:
		faults.Add("the target's port is "+port, "address")
	case literalErr == nil && literal.Unmap() != ip:
		faults.Add("the target is "+t.Target+" and has no other address", "address")
	}
	return ip.String(), faults.Err()
}

func targetFault(s string) string {
	if _, ok := TargetAddress(s); !ok {
		return "Invalid target ('" + s + "'); not a valid hostname or ip address"
	}
	return ""
}
