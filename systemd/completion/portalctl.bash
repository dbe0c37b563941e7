# bash completion of portalctl(1)

# The options and subcommands of a command are what its --help says: so they are those of the program that is installed.
_portalctl() {
    local program=${COMP_WORDS[0]} current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local -a command=()
    local word offers
    COMPREPLY=()

    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $word in
            -*) break ;;
            *) if ((${#command[@]} == 0)) || [[ ${command[*]} == dead ]]; then command+=("$word"); fi ;;
        esac
    done

    case $previous in
        --outcome) offers='created reused redirect failed' ;;
        --reason) offers='stripe_unavailable internal_error expired invalid_request reply_refused forbidden_sender poisonous rejected' ;;
        --flow) offers='payment_method_update subscription_cancel subscription_update subscription_update_confirm' ;;
        --output)
            mapfile -t COMPREPLY < <(compgen -f -- "$current")
            return
            ;;
        --directory)
            mapfile -t COMPREPLY < <(compgen -d -- "$current")
            return
            ;;
        *) ;;
    esac
    if [[ -z ${offers-} ]]; then
        case "${command[*]} $current" in
            'replay '[!-]* | 'replay ')
                mapfile -t COMPREPLY < <(compgen -f -- "$current")
                return
                ;;
            *) ;;
        esac
        if [[ $current == -* ]]; then
            offers="$("$program" "${command[@]}" --help 2>/dev/null | sed -n 's/^  \(--[a-z-]*\).*/\1/p') --help"
            ((${#command[@]} == 0)) && offers+=' --version'
        elif ((${#command[@]} == 0)) || [[ ${command[*]} == dead ]]; then
            offers=$("$program" "${command[@]}" --help 2>/dev/null | sed -n 's/^  \([a-z]\{4,\}\)  .*/\1/p')
        fi
    fi
    mapfile -t COMPREPLY < <(compgen -W "${offers-}" -- "$current")
}
complete -F _portalctl portalctl
