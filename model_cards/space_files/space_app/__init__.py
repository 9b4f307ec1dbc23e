"""The app of a Space: films, findings by prompt, nearest reports, masks. It needs torch, transformers and gradio."""
