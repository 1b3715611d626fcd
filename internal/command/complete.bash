# bash completion of tollstream
_tollstream() {
	local word found=() cur=${COMP_WORDS[COMP_CWORD]}
	COMPREPLY=()
	[ "$cur" != "=" ] || cur=
	while IFS=$'\t' read -r word _; do
		case $word in
		:files) compopt -o filenames 2>/dev/null; mapfile -t found < <(compgen -f -- "$cur") ;;
		:folders) compopt -o filenames 2>/dev/null; mapfile -t found < <(compgen -d -- "$cur") ;;
		*) found=("$word") ;;
		esac
		COMPREPLY+=("${found[@]}")
	done < <("${COMP_WORDS[0]}" complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _tollstream tollstream
