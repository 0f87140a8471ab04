// Command artifact looks at built functions: is each a static, stripped binary
// for the machine it will run on, made with the flags that keep it small, and
// within the size that a quick start allows? It prints their sizes.
//
//	go -C tools run ./artifact [-arch arm64] [-max-zip 4000000] FILE...
package main

import (
	"archive/zip"
	"compress/flate"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	arch := flag.String("arch", "arm64", "GOARCH that the binaries are for")
	maxZip := flag.Int64("max-zip", 4_000_000, "most bytes that a zipped binary may have")
	flag.Parse()
	failed := flag.NArg() == 0
	if failed {
		fmt.Fprintln(os.Stderr, "artifact: no files named")
	}
	for _, path := range flag.Args() {
		if err := look(path, *arch, *maxZip); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", path, err)
			failed = true
		}
	}
	if failed {
		os.Exit(1)
	}
}

func look(path, arch string, maxZip int64) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	zipped, err := zipSize(raw)
	if err != nil {
		return err
	}
	fmt.Printf("%-44s %5.2f MB   zip %4.2f MB\n", short(path), float64(len(raw))/1e6, float64(zipped)/1e6)

	var faults []error
	if zipped > maxZip {
		faults = append(faults, fmt.Errorf("zipped it has %d bytes, more than %d", zipped, maxZip))
	}
	return errors.Join(append(faults, static(path), flags(path, arch))...)
}

// short leaves out all but the last directories.
func short(path string) string {
	parts := strings.Split(path, "/")
	return strings.Join(parts[max(0, len(parts)-4):], "/")
}

func static(path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			return errors.New("it is linked dynamically")
		}
	}
	if f.Section(".symtab") != nil || f.Section(".debug_info") != nil || f.Section(".zdebug_info") != nil {
		return errors.New("it is not stripped")
	}
	return nil
}

func flags(path, arch string) error {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return err
	}
	got := map[string]string{}
	for _, s := range info.Settings {
		got[s.Key] = s.Value
	}
	var faults []error
	for key, want := range map[string]string{
		"GOOS": "linux", "GOARCH": arch, "CGO_ENABLED": "0", "-tags": "lambda.norpc", "-trimpath": "true",
	} {
		if got[key] != want {
			faults = append(faults, fmt.Errorf("it was built with %s=%q; want %q", key, got[key], want))
		}
	}
	return errors.Join(faults...)
}

func zipSize(raw []byte) (int64, error) {
	var n counter
	w := zip.NewWriter(&n)
	w.RegisterCompressor(zip.Deflate, func(out io.Writer) (io.WriteCloser, error) {
		return flate.NewWriter(out, flate.BestCompression)
	})
	f, err := w.Create("bootstrap")
	if err != nil {
		return 0, err
	}
	if _, err := f.Write(raw); err != nil {
		return 0, err
	}
	err = w.Close()
	return int64(n), err
}

type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}
