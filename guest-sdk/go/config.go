package sdk

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Config has the options that a pipeline gives an operator.
//
// A method that cannot read an option remembers why: the option is refused after Open, even if Open returns no error, and so
// is an option that was not looked up. So Open needs no error handling, and a misspelt option never counts as a default.
type Config struct {
	options [][2]string
	known   []string
	err     error
}

// Lookup is the option of this name, if it is set.
func (c *Config) Lookup(name string) (string, bool) {
	if !slices.Contains(c.known, name) {
		c.known = append(c.known, name)
	}
	for _, option := range c.options {
		if option[0] == name {
			return option[1], true
		}
	}
	return "", false
}

// Require is an option that must be set.
func (c *Config) Require(name string) string {
	value, isSet := c.Lookup(name)
	if !isSet {
		c.fail(fmt.Errorf("option `%s` is missing; set it", name))
	}
	return value
}

// String is an option, or the default if it is not set.
func (c *Config) String(name, unset string) string {
	if value, isSet := c.Lookup(name); isSet {
		return value
	}
	return unset
}

// Int is an option that is a whole number, or the default if it is not set.
func (c *Config) Int(name string, unset int64) int64 {
	return read(c, name, unset, "a whole number from -2^63 to 2^63-1", func(text string) (int64, error) {
		return strconv.ParseInt(text, 10, 64)
	})
}

// Uint is an option that is a whole number and not negative, or the default if it is not set.
func (c *Config) Uint(name string, unset uint64) uint64 {
	return read(c, name, unset, "a whole number from 0 to 2^64-1", func(text string) (uint64, error) {
		return strconv.ParseUint(text, 10, 64)
	})
}

// Float is an option that is a number, or the default if it is not set.
func (c *Config) Float(name string, unset float64) float64 {
	return read(c, name, unset, "a number", func(text string) (float64, error) {
		return strconv.ParseFloat(text, 64)
	})
}

// Bool is an option that is true or false, or the default if it is not set.
func (c *Config) Bool(name string, unset bool) bool {
	return read(c, name, unset, "`true` or `false`", func(text string) (bool, error) {
		if text != "true" && text != "false" {
			return false, strconv.ErrSyntax
		}
		return text == "true", nil
	})
}

// Duration is an option such as `1h30m` or `7d`, or the default if it is not set.
func (c *Config) Duration(name string, unset time.Duration) time.Duration {
	return read(c, name, unset, "a time such as `1h30m` or `7d`", duration)
}

func read[T any](c *Config, name string, unset T, what string, parse func(string) (T, error)) T {
	text, isSet := c.Lookup(name)
	if !isSet {
		return unset
	}
	value, err := parse(text)
	if err != nil {
		c.fail(fmt.Errorf("option `%s` is `%s`, which is not %s", name, readable([]byte(text)), what))
		return unset
	}
	return value
}

// fail remembers an error; the first one counts.
func (c *Config) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// refuseUnknown refuses options that were never looked up.
func (c *Config) refuseUnknown() error {
	for _, option := range c.options {
		if slices.Contains(c.known, option[0]) {
			continue
		}
		if len(c.known) == 0 {
			return fmt.Errorf("unknown option `%s`; this operator has none", option[0])
		}
		return fmt.Errorf("unknown option `%s`; this operator knows `%s`", option[0], strings.Join(c.known, "`, `"))
	}
	return nil
}
