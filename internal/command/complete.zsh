#compdef tollstream
# zsh completion of tollstream
_tollstream() {
	local -a found
	local word about
	while IFS=$'\t' read -r word about; do
		case $word in
		:files) _files ;;
		:folders) _files -/ ;;
		*) found+=("${word//:/\\:}${about:+:$about}") ;;
		esac
	done < <("${words[1]}" complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)
	(( $#found )) && _describe tollstream found
}
if [ "${funcstack[1]}" = _tollstream ]; then
	_tollstream "$@"
else
	compdef _tollstream tollstream
fi
