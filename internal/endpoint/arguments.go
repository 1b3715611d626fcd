package endpoint

import "strings"

// passwordIn returns where the password of a DSN stands on a command line: [from, to) of the
// argument. The rest of a DSN may be malformed. It reports false where there is none.
func passwordIn(argument string) (from, to int, ok bool) {
	at := strings.LastIndexByte(argument, '@')
	if at < 0 {
		return 0, 0, false
	}
	start := 0
	if strings.HasPrefix(argument, "-") {
		start = strings.IndexByte(argument[:at], '=') + 1 // --mysql=DSN
	}
	colon := strings.IndexByte(argument[start:at], ':')
	if colon < 0 {
		return 0, 0, false
	}
	return start + colon + 1, at, true
}

// HidePasswords returns a copy of the command line, after it made the password of a DSN on it
// unreadable for those who list the machine's processes.
func HidePasswords(args []string) []string {
	line := make([]string, len(args))
	for i, arg := range args {
		line[i] = strings.Clone(arg)
	}
	for i, arg := range line {
		inline := strings.HasPrefix(arg, "--mysql=") || strings.HasPrefix(arg, "-mysql=")
		if !inline && (i == 0 || line[i-1] != "--mysql" && line[i-1] != "-mysql") {
			continue
		}
		if from, to, ok := passwordIn(arg); ok && arg[from:to] != defaultMySQLPassword {
			hide(args[i], from, to)
		}
	}
	return line
}
