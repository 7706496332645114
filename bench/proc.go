package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// userHZ is the unit of CPU times in /proc (sysconf(_SC_CLK_TCK)), the same on
// all of Linux.
const userHZ = 100

// cpuOf returns the CPU seconds that processes have used so far.
func cpuOf(pids []int) (secs float64) {
	for _, pid := range pids {
		text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		f := strings.Fields(rest)
		if len(f) < 13 {
			continue
		}
		for _, ticks := range f[11:13] { // utime, stime: fields 14 and 15 of proc_pid_stat(5)
			n, _ := strconv.ParseFloat(ticks, 64)
			secs += n / userHZ
		}
	}
	return secs
}

// rssOf returns the resident memory of processes in bytes.
func rssOf(pids []int) (n int64) {
	for _, pid := range pids {
		text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
				kb, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "kB")), 10, 64)
				n += kb << 10
			}
		}
	}
	return n
}

// family returns pid and those of its children that run the same program.
func family(pid int, program string) []int {
	all := []int{pid}
	lists, _ := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "children"))
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for _, word := range strings.Fields(string(text)) {
			child, err := strconv.Atoi(word)
			if err != nil {
				continue
			}
			name, _ := os.ReadFile(filepath.Join("/proc", word, "comm"))
			if strings.TrimSpace(string(name)) == filepath.Base(program) {
				all = append(all, child)
			}
		}
	}
	return all
}
