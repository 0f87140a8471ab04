package egress

import (
	"fmt"
	"net/netip"

	"code.dny.dev/ssrf"
)

// BlockedError says that the egress rules refuse an address. Its text names
// the class of the address only: which address an internal name resolves to is
// nothing that the author of a hook should learn from a failed delivery.
type BlockedError struct {
	Class string // one of the Class constants
}

func (e *BlockedError) Error() string {
	return "blocked by the egress rules: " + e.Class + " address"
}

// Classes of refused addresses.
const (
	ClassUnspecified = "unspecified"
	ClassLoopback    = "loopback"
	ClassLinkLocal   = "link-local or metadata"
	ClassMetadata    = "cloud metadata"
	ClassMulticast   = "multicast"
	ClassBroadcast   = "broadcast"
	ClassScoped      = "scoped"
	ClassOwn         = "this system's own"
	ClassPrivate     = "private"
	ClassShared      = "shared (carrier-grade NAT)"
	ClassReserved    = "reserved"
	ClassUnknown     = "unreadable"
)

// rules judge addresses, never names: a name is only what a resolver makes of
// it at the moment of dialling.
type rules struct {
	allow    []netip.Prefix
	loopback bool
	deny     []netip.AddrPort
	guard    *ssrf.Guardian
}

func newRules(o Options) (*rules, error) {
	r := &rules{
		loopback: o.AllowLoopback,
		guard:    ssrf.New(ssrf.WithAnyPort()),
	}
	for _, p := range o.AllowPrivate {
		if !p.IsValid() {
			return nil, fmt.Errorf("egress: AllowPrivate holds an invalid prefix")
		}
		if a := p.Addr(); a.Is4In6() {
			if p.Bits() < 96 {
				return nil, fmt.Errorf("egress: AllowPrivate %s: write the IPv4 and the IPv6 range each by itself", p)
			}
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		r.allow = append(r.allow, p.Masked())
	}
	for _, d := range o.DenyAddrs {
		if !d.IsValid() {
			return nil, fmt.Errorf("egress: DenyAddrs holds an invalid address")
		}
		r.deny = append(r.deny, netip.AddrPortFrom(d.Addr().Unmap().WithZone(""), d.Port()))
	}
	return r, nil
}

// dial judges an address as the dialer writes it: "ip:port".
func (r *rules) dial(address string) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return &BlockedError{Class: ClassUnknown}
	}
	return r.judge(ap)
}

// judge returns nil or a *BlockedError. The order matters: what is never
// allowed comes before what the operator allows (code.dny.dev/ssrf has it the
// other way round, so that allowing 0.0.0.0/0 there opens the metadata
// service), and both come before what is refused by default.
//
// An IPv6 address may carry IPv4 addresses inside; a translator or a tunnel on
// the way would take the packet there. The address itself and every address
// inside must pass.
func (r *rules) judge(ap netip.AddrPort) error {
	addr := ap.Addr()
	if addr.Zone() != "" {
		return &BlockedError{Class: ClassScoped}
	}
	addr = addr.Unmap() // the kernel dials the IPv4 address, so that is the address
	if err := r.judgeOwn(netip.AddrPortFrom(addr, ap.Port())); err != nil {
		return err
	}
	var buf [5]netip.Addr
	all := append(inside(buf[:0], addr), addr)
	for _, a := range all {
		if class := never(a); class != "" && (class != ClassLoopback || !r.loopback || a != addr) {
			return &BlockedError{Class: class}
		}
	}
	for _, a := range all {
		if r.allowed(a) || (r.loopback && a.IsLoopback()) {
			continue
		}
		if r.guard.SafeAddr(a) != nil {
			return &BlockedError{Class: class(a)}
		}
	}
	return nil
}

// judgeOwn refuses the addresses at which this process listens. A listener on
// the unspecified address answers on every address of the machine: then its
// port is refused on all addresses that are not public.
func (r *rules) judgeOwn(ap netip.AddrPort) error {
	for _, d := range r.deny {
		if d.Port() != ap.Port() {
			continue
		}
		if d.Addr() == ap.Addr() || (d.Addr().IsUnspecified() && (ap.Addr().IsLoopback() || r.guard.SafeAddr(ap.Addr()) != nil)) {
			return &BlockedError{Class: ClassOwn}
		}
	}
	return nil
}

func (r *rules) allowed(a netip.Addr) bool {
	for _, p := range r.allow {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// never returns the class of an address that nobody may allow, or "".
func never(a netip.Addr) string {
	switch {
	case a.IsLoopback():
		return ClassLoopback
	case a.IsUnspecified():
		return ClassUnspecified
	case a.IsLinkLocalUnicast():
		return ClassLinkLocal
	case a.IsMulticast():
		return ClassMulticast
	}
	if a.Is4() {
		b := a.As4()
		switch {
		case b[0] == 0: // "this network": the kernel takes some of it for this host
			return ClassUnspecified
		case b == [4]byte{255, 255, 255, 255}:
			return ClassBroadcast
		case b == [4]byte{168, 63, 129, 16}, // Azure's platform
			b == [4]byte{100, 100, 100, 200}, // Alibaba Cloud
			b == [4]byte{192, 0, 0, 192}:     // Oracle Cloud, older form
			return ClassMetadata
		}
		return ""
	}
	b := a.As16()
	switch {
	case b[0] == 0xfd && b[1] == 0x00 && b[2] == 0x0e && b[3] == 0xc2, // AWS: fd00:ec2::/32 (IMDS ::254, EKS ::23, DNS ::253)
		b[0] == 0xfd && b[1] == 0x20 && b[2] == 0x00 && b[3] == 0xce, // Google Cloud: fd20:ce::254
		b[0] == 0xfd && b[1] == 0x00 && b[2] == 0x00 && b[3] == 0xc1, // Oracle Cloud: fd00:c1::a9fe:a9fe
		b[0] == 0xfd && b[1] == 0x00 && b[2] == 0x00 && b[3] == 0x42: // Scaleway: fd00:42::42
		return ClassMetadata
	}
	return ""
}

// inside appends the IPv4 addresses that an IPv6 address carries.
func inside(dst []netip.Addr, a netip.Addr) []netip.Addr {
	if a.Is4() {
		return dst
	}
	b := a.As16()
	v4 := func(i, j, k, l int) netip.Addr { return netip.AddrFrom4([4]byte{b[i], b[j], b[k], b[l]}) }
	has := func(prefix ...byte) bool {
		for i, p := range prefix {
			if b[i] != p {
				return false
			}
		}
		return true
	}
	zero := func(from, to int) bool {
		for _, x := range b[from:to] {
			if x != 0 {
				return false
			}
		}
		return true
	}
	switch {
	case zero(0, 12): // IPv4-compatible, RFC 4291; :: and ::1 are judged as what they are
		if !zero(12, 15) || b[15] > 1 {
			dst = append(dst, v4(12, 13, 14, 15))
		}
	case zero(0, 8) && b[8] == 0xff && b[9] == 0xff && zero(10, 12): // IPv4-translated, RFC 2765
		dst = append(dst, v4(12, 13, 14, 15))
	case has(0x00, 0x64, 0xff, 0x9b) && zero(4, 12): // NAT64, RFC 6052
		dst = append(dst, v4(12, 13, 14, 15))
	case has(0x00, 0x64, 0xff, 0x9b, 0x00, 0x01): // NAT64 for local use, RFC 8215
		// Which of RFC 6052's lengths the network uses cannot be seen from
		// here, so each reading counts; one that begins with a zero byte is no
		// address but the padding of another length.
		n := len(dst)
		for _, r := range [...]netip.Addr{v4(6, 7, 9, 10), v4(7, 9, 10, 11), v4(9, 10, 11, 12), v4(12, 13, 14, 15)} {
			if r.As4()[0] != 0 {
				dst = append(dst, r)
			}
		}
		if len(dst) == n {
			dst = append(dst, netip.IPv4Unspecified())
		}
	case has(0x20, 0x02): // 6to4, RFC 3056
		dst = append(dst, v4(2, 3, 4, 5))
	case has(0x20, 0x01, 0x00, 0x00): // Teredo, RFC 4380: server, and client with all bits flipped
		dst = append(dst, v4(4, 5, 6, 7), netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]}))
	}
	if b[8]&^0x02 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe { // ISATAP, RFC 5214: in the interface part of any prefix
		dst = append(dst, v4(12, 13, 14, 15))
	}
	return dst
}

// class names what a default refusal is about.
func class(a netip.Addr) string {
	switch {
	case a.IsPrivate():
		return ClassPrivate
	case a.Is4() && a.As4()[0] == 100:
		return ClassShared
	}
	return ClassReserved
}
